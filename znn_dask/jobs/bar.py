"""A progress bar for a job that runs elsewhere."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import Console

from znn_dask.jobs.records import History
from znn_dask.training.progress import TrainingProgress, track

if TYPE_CHECKING:
    from znn_dask.jobs.handle import Job


def show(job: "Job") -> History:
    """Show how far a job is until it is over; what is known of it then."""
    if job.history.description.kind == "training":
        _show_training(job)
    else:
        _show_prediction(job)
    return job.history


def _show_training(job: "Job") -> None:
    """The bar of a training, and the lines of its log above it."""
    console = Console(stderr=True)
    bar: TrainingProgress | None = None
    with ExitStack() as stack:
        for history, text in job.follow():
            progress = history.progress
            if bar is None and progress is not None and progress.last:
                bar = TrainingProgress(
                    progress.last, progress.step, progress.voxels, console=console
                )
                stack.enter_context(bar)
            for line in text.splitlines():
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            if bar is None or progress is None or progress.loss is None:
                continue
            if progress.validation is not None:
                bar.validated(progress.validation)
            bar.update(progress.step, progress.loss)


def _show_prediction(job: "Job") -> None:
    for history, _ in job.follow():
        progress = history.progress
        if progress is not None and progress.last:
            title = f"{history.description.title}, blocks"
            for _ in track(_blocks(job), title, progress.last, done=progress.step):
                pass
            return


def _blocks(job: "Job") -> Iterator[int]:
    """The number of each block that is done from now on."""
    done: int | None = None
    for history, _ in job.follow():
        step = history.progress.step if history.progress is not None else 0
        yield from range(step if done is None else done, step)
        done = max(step, done or 0)
