"""`submit`, `list_jobs` and `find_job`, and the `Job` that they return.

The command line does nothing else.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distributed import Client

from znn_dask.jobs import entries
from znn_dask.jobs.access import Access, access
from znn_dask.jobs.fetching import fetch
from znn_dask.jobs.log import Position
from znn_dask.jobs.prediction import Prediction
from znn_dask.jobs.records import History
from znn_dask.jobs.state import State, is_over, state_of
from znn_dask.jobs.submission import describe
from znn_dask.training.config import Config

_LOOK_SECONDS = 1.0


class Job:
    """A job in a folder that a cluster sees. It needs neither this object nor this process.

    Attributes
    ----------
    id
        Its name, which is also that of its folder.
    """

    def __init__(self, access: Access, id: str) -> None:
        self.id = id
        self._access = access

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.state}>"

    @property
    def location(self) -> str:
        """The job's folder, a path or URL that the cluster sees."""
        return f"{self._access.location}/{self.id}"

    @property
    def history(self) -> History:
        """All that is known of it now."""
        return self._access.run(entries.history, self.id)

    @property
    def state(self) -> State:
        """ "waiting", "running", "cancelling", "completed", "failed" or "cancelled"."""
        return state_of(self.history)

    @property
    def checkpoints(self) -> entries.Checkpoints:
        """Locations of the newest and the best checkpoint of a training, on the cluster."""
        return self._access.run(entries.checkpoints, self.id)

    def log(self) -> str:
        """All of its log."""
        return self._access.run(entries.log_after, self.id, Position())[0]

    def follow(self) -> Iterator[tuple[History, str]]:
        """What is known, and the new lines of the log, about once a second until it is over."""
        position = Position()
        while True:
            history = self.history
            text, position = self._access.run(entries.log_after, self.id, position)
            yield history, text
            if is_over(history):
                return
            time.sleep(_LOOK_SECONDS)

    def wait(self, timeout: float | None = None) -> State:
        """Wait until it is over; how it ended.

        Raises
        ------
        TimeoutError
            After `timeout` seconds; the job goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not is_over(history := self.history):
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {self.id} is {state_of(history)} after {timeout} seconds")
            time.sleep(_LOOK_SECONDS)
        return state_of(history)

    def cancel(self) -> None:
        """End it where it is: a training leaves a checkpoint, a prediction its finished blocks.

        Returns at once; `wait` tells when it is over. Raises JobsError where it is over already.
        """
        self._wish("cancel")

    def resume(self) -> None:
        """Go on where it was cancelled or failed; raises JobsError where it was not."""
        self._wish("resume")

    def fetch(self, folder: str | Path, say: Callable[[str], None] = lambda text: None) -> None:
        """Copy checkpoints, learning curve, configuration and log to a local folder; `fetching`
        says what it holds. `say` is told what was copied, line by line."""
        fetch(self._access, self.id, Path(folder), say)

    def _wish(self, what: Any) -> None:
        self._access.run(entries.wish, self.id, what)
        self._access.changed()


def submit(
    work: str | Path | Mapping[str, Any] | Config | Prediction,
    client: Client | None = None,
    *,
    folder: str | Path | None = None,
    title: str | None = None,
    overrides: tuple[str, ...] = (),
) -> Job:
    """Have a cluster train or predict, without this process.

    Parameters
    ----------
    work
        A training configuration (a TOML file, its settings, or a `Config`) or a `Prediction`.
        Relative paths in a file are taken from its folder, others from the working directory; what
        they lead to must be seen by the scheduler and all workers. A network file and a plan file
        need not: their content travels.
    client
        The cluster; the current one when not given.
    folder
        Where its folder of jobs is, a path or URL that the scheduler and all workers see; what the
        configuration of Dask or the scheduler says (`znn.jobs.folder`) when not given.
    title
        How the job is called in tables.
    overrides
        ("section.key=value", ...) for a configuration.

    Raises
    ------
    ValueError, OSError
        In one line: JobsError or what belongs to the work, where it cannot be done as asked, or
        the folder cannot be written; OSError where the scheduler does not answer.
    """
    from distributed import default_client

    way = access(client if client is not None else default_client(), folder)
    job = Job(way, way.run(entries.enter, describe(work, way, title, overrides)))
    way.changed()
    return job


def list_jobs(client: Client | None = None, *, folder: str | Path | None = None) -> list[Job]:
    """The jobs of a cluster, or in a folder alone, in the order of their submission.

    Raises
    ------
    JobsError
        Where neither is given and none is configured.
    OSError
        Where the scheduler or the storage does not answer.
    """
    way = access(client, folder)
    return [Job(way, history.id) for history in way.run(entries.histories)]


def find_job(name: str, client: Client | None = None, *, folder: str | Path | None = None) -> Job:
    """The job whose id begins or ends with `name`; raises JobsError unless there is just one."""
    way = access(client, folder)
    return Job(way, way.run(entries.find, name))
