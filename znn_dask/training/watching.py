"""Watching a training: what a trainer tells, as it happens, to whoever shows or records it."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from znn_dask.training.progress import TrainingProgress

if TYPE_CHECKING:
    from znn_dask.training.trainer import Trainer


@dataclass(frozen=True)
class Run:
    """One call of `fit`.

    Attributes
    ----------
    trainer
        Its curve, parameters and checkpoint may be read whenever a watcher is called.
    first, last
        Updates made before, and in all when the call ends.
    voxels
        Output voxels of an update, over its batch.
    job
        Its name in Dask's keys.
    """

    trainer: "Trainer"
    first: int
    last: int
    voxels: int
    job: str = ""


class Watcher:
    """Does nothing; what a subclass overrides is called in the thread that calls `fit`.

    What a method raises ends the training: `saving` of a driver that must not write any more
    raises, and no checkpoint is written.
    """

    def begin(self, run: Run) -> None:
        """`fit` begins; `end` will follow."""

    def update(self, step: int, loss: float) -> None:
        """`step` updates are made, the last of them with this loss per output voxel."""

    def validated(self, step: int, loss: float) -> None:
        """A validation after `step` updates."""

    def saving(self, step: int) -> None:
        """A checkpoint of `step` updates is about to be written."""

    def saved(self, step: int, checkpoint: str | Path) -> None:
        """A checkpoint of `step` updates is complete."""

    def message(self, text: str) -> None:
        """Something that a person should know, in one line."""

    def end(self) -> None:
        """`fit` ends, however it does."""


class Bar(Watcher):
    """The progress bar."""

    def begin(self, run: Run) -> None:
        self._bar = TrainingProgress(run.last, run.first, run.voxels, curve=run.trainer.curve)
        self._bar.__enter__()

    def update(self, step: int, loss: float) -> None:
        self._bar.update(step, loss)

    def validated(self, step: int, loss: float) -> None:
        self._bar.validated(loss)

    def message(self, text: str) -> None:
        self._bar.message(text)

    def end(self) -> None:
        self._bar.__exit__(None, None, None)


class Watchers(Watcher):
    """Several watchers as one."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = tuple(watchers)

    @contextmanager
    def during(self, run: Run) -> Iterator[None]:
        """From `begin` to `end` of each."""
        with ExitStack() as stack:
            for watcher in self._watchers:
                watcher.begin(run)
                stack.callback(watcher.end)
            yield

    def update(self, step: int, loss: float) -> None:
        for watcher in self._watchers:
            watcher.update(step, loss)

    def validated(self, step: int, loss: float) -> None:
        for watcher in self._watchers:
            watcher.validated(step, loss)

    def saving(self, step: int) -> None:
        for watcher in self._watchers:
            watcher.saving(step)

    def saved(self, step: int, checkpoint: str | Path) -> None:
        for watcher in self._watchers:
            watcher.saved(step, checkpoint)

    def message(self, text: str) -> None:
        for watcher in self._watchers:
            watcher.message(text)
