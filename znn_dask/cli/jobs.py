"""`submit`, `jobs`, `logs`, `attach`, `cancel`, `resume` and `fetch`: work that a cluster goes on
with when this computer is switched off."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from znn_dask.cli.arguments import Region, Switch, connect
from znn_dask.cli.errors import BROKEN, INTERRUPTED, say
from znn_dask.cli.training import Overrides

if TYPE_CHECKING:
    from distributed import Client

    from znn_dask.jobs.handle import Job

Scheduler = Annotated[str | None, Parameter(metavar="ADDRESS")]
Folder = Annotated[str | None, Parameter(metavar="FOLDER")]

submit = App(
    name="submit",
    help="""Have a cluster train or predict; returns at once with the id of the job.

    The job goes on when this computer is switched off, and after the loss of any worker.""",
)


@submit.default
def train(
    config: Path,
    /,
    *,
    scheduler: Scheduler = None,
    folder: Folder = None,
    set_: Overrides = (),
    title: str | None = None,
) -> None:
    """Train as a configuration file says. `znn-dask submit predict` predicts.

    Example:

        znn-dask submit config.toml --scheduler tcp://cluster:8786 --folder /shared/jobs
        znn-dask submit predict checkpoints volume.zarr/image map.zarr

    Parameters
    ----------
    config
        The configuration, a TOML file. The volumes that it names must be seen by the cluster; its
        training.folder is not used, since checkpoints are kept in the job's folder.
    scheduler
        Address of a Dask scheduler (tcp://..., tls://...); DASK_SCHEDULER_ADDRESS when not given.
    folder
        Folder of jobs, a path or URL that the scheduler and all workers see; the one that the
        scheduler watches when not given.
    set_
        Override a key, as section.key=value; may be given several times.
    title
        What to call it in tables; the file's name when not given.
    """
    _submit(scheduler, folder, config, title, set_)


@submit.command
def predict(
    checkpoint: str,
    image: str,
    out: str,
    /,
    *,
    scheduler: Scheduler = None,
    folder: Folder = None,
    border: Literal["valid", "mirror"] = "valid",
    augment: Literal[1, 8, 16] = 1,
    dtype: Literal["float32", "float64", "uint8"] = "float32",
    region: Region = None,
    output: str | None = None,
    memory_limit: str | None = None,
    overwrite: Switch = False,
    title: str | None = None,
) -> None:
    """Predict a whole volume; the options are those of `znn-dask predict`.

    Example:

        znn-dask submit predict 3f2a /shared/volume.zarr/image /shared/map.zarr --border mirror

    Parameters
    ----------
    checkpoint
        A checkpoint, a folder of them (its latest), or the id of a training job (its latest).
    image
        The image, such as volume.zarr/image, where the cluster sees it.
    out
        Where the map goes, a new folder such as map.zarr that the cluster sees.
    scheduler
        Address of a Dask scheduler; DASK_SCHEDULER_ADDRESS when not given.
    folder
        Folder of jobs; the one that the scheduler watches when not given.
    border
        valid: only voxels whose whole field of view lies in the image; mirror: all voxels.
    augment
        Average over so many flips (8) or flips and transposes (16).
    dtype
        float64 is computed in float64 too; uint8 takes a quarter of the room, with 255 for 1.
    region
        Image voxels that the map shall lie over, as 0:100,:,190:250 (z,y,x).
    output
        Output node, where the network has several.
    memory_limit
        Memory for blocks in flight on each worker, such as 4GB.
    overwrite
        Begin again where another prediction is at OUT.
    title
        What to call it in tables; the name of OUT when not given.
    """
    from znn_dask.jobs.prediction import Prediction
    from znn_dask.segmentation.maps import parse_region

    options = {
        "border": border,
        "augment": False if augment == 1 else augment,
        "dtype": dtype,
        "output": output,
        "region": None if region is None else parse_region(region),
        "memory_limit": memory_limit,
        "overwrite": overwrite,
    }
    _submit(scheduler, folder, Prediction(checkpoint, image, out, options), title)


def jobs(*, scheduler: Scheduler = None, folder: Folder = None, json: Switch = False) -> None:
    """List the jobs of a cluster.

    With --folder alone no scheduler is asked: the folder itself tells how the jobs are.

    Example:

        znn-dask jobs --scheduler tcp://cluster:8786

    Parameters
    ----------
    scheduler
        Address of a Dask scheduler; DASK_SCHEDULER_ADDRESS when not given.
    folder
        Folder of jobs; the one that the scheduler watches when not given.
    json
        Print JSON.
    """
    from znn_dask.jobs import entries
    from znn_dask.jobs.access import access
    from znn_dask.jobs.table import as_json, table

    with _client(scheduler, folder) as client:
        way = access(client, folder)
        found = way.run(entries.histories)
    if json:
        print(as_json(found))
    elif found:
        print(table(found))
    else:
        say(f"no jobs in {way.location}")


def logs(
    job: str,
    /,
    *,
    scheduler: Scheduler = None,
    folder: Folder = None,
    follow: Annotated[bool, Parameter(alias="-f", negative=(), show_default=False)] = False,
) -> None:
    """Print the log of a job.

    Example:

        znn-dask logs 3f2a -f

    Parameters
    ----------
    job
        Its id, or the beginning or end of it.
    scheduler
        Address of a Dask scheduler; DASK_SCHEDULER_ADDRESS when not given.
    folder
        Folder of jobs; the one that the scheduler watches when not given.
    follow
        Go on until the job is over.
    """
    with _job(job, scheduler, folder) as found:
        if not follow:
            print(found.log(), end="")
            return
        for _, text in found.follow():
            print(text, end="", flush=True)


def attach(job: str, /, *, scheduler: Scheduler = None, folder: Folder = None) -> int:
    """Show the progress of a job until it is over.

    Ctrl-C detaches, and the job goes on. The exit code is 0 if it completes, and 1 if it fails or
    is cancelled.

    Example:

        znn-dask attach 3f2a

    Parameters
    ----------
    job
        Its id, or the beginning or end of it.
    scheduler
        Address of a Dask scheduler; DASK_SCHEDULER_ADDRESS when not given.
    folder
        Folder of jobs; the one that the scheduler watches when not given.
    """
    from znn_dask.jobs.bar import show
    from znn_dask.jobs.state import sentence, state_of

    with _job(job, scheduler, folder) as found:
        try:
            history = show(found)
        except KeyboardInterrupt:
            say(f"detached; job {found.id} goes on")
            return INTERRUPTED
    say(f"job {found.id} {sentence(history)}")
    if state_of(history) != "completed":
        return BROKEN
    say(f"next: znn-dask fetch {found.id} {history.description.title}")
    return 0


def cancel(job: str, /, *, scheduler: Scheduler = None, folder: Folder = None) -> None:
    """End a job where it is; `znn-dask resume` goes on from there.

    A training leaves a checkpoint, a prediction its finished blocks.

    Example:

        znn-dask cancel 3f2a

    Parameters
    ----------
    job
        Its id, or the beginning or end of it.
    scheduler
        Address of a Dask scheduler; DASK_SCHEDULER_ADDRESS when not given.
    folder
        Folder of jobs; the one that the scheduler watches when not given.
    """
    with _job(job, scheduler, folder) as found:
        found.cancel()
        say(f"job {found.id} is asked to end; znn-dask resume {found.id} goes on from there")


def resume(job: str, /, *, scheduler: Scheduler = None, folder: Folder = None) -> None:
    """Go on with a job that was cancelled or that failed, from its last checkpoint.

    Example:

        znn-dask resume 3f2a

    Parameters
    ----------
    job
        Its id, or the beginning or end of it.
    scheduler
        Address of a Dask scheduler; DASK_SCHEDULER_ADDRESS when not given.
    folder
        Folder of jobs; the one that the scheduler watches when not given.
    """
    with _job(job, scheduler, folder) as found:
        found.resume()
        say(f"job {found.id} goes on")


def fetch(job: str, out: Path, /, *, scheduler: Scheduler = None, folder: Folder = None) -> None:
    """Copy what a job made to this computer; it may be running.

    Of a training: the latest and the best checkpoint, the learning curve and the log. Of a
    prediction: the log, and where its map is.

    Example:

        znn-dask fetch 3f2a neurons

    Parameters
    ----------
    job
        Its id, or the beginning or end of it.
    out
        Local folder for it.
    scheduler
        Address of a Dask scheduler; DASK_SCHEDULER_ADDRESS when not given.
    folder
        Folder of jobs; the one that the scheduler watches when not given.
    """
    with _job(job, scheduler, folder) as found:
        found.fetch(out, say)


def _submit(
    scheduler: str | None,
    folder: str | None,
    work: Any,
    title: str | None,
    overrides: tuple[str, ...] = (),
) -> None:
    from znn_dask.jobs.handle import submit as submit_job

    with _client(scheduler, None) as client:
        if client is None:
            raise ValueError("no scheduler to submit to: give --scheduler tcp://HOST:8786")
        job = submit_job(work, client, folder=folder, title=title, overrides=overrides)
    print(job.id)
    say(f"job in {job.location}; next: znn-dask attach {job.id}")


@contextmanager
def _client(scheduler: str | None, folder: str | None) -> "Iterator[Client | None]":
    """A client of the scheduler that is named, in the line or by Dask's configuration; None where
    there is none, or a folder is named alone."""
    import dask

    address = scheduler
    if address is None and folder is None:
        address = dask.config.get("scheduler-address", None)
    if address is None:
        yield None
        return
    with connect(address) as client:
        yield client


@contextmanager
def _job(name: str, scheduler: str | None, folder: str | None) -> "Iterator[Job]":
    from znn_dask.jobs.handle import find_job

    with _client(scheduler, folder) as client:
        yield find_job(name, client, folder=folder)
