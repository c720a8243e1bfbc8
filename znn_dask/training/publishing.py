"""A watcher that tells the cluster's dashboard how a training goes."""

import sys
import time
from pathlib import Path

from znn_dask.dashboard.channel import Channel, Message
from znn_dask.dashboard.thinning import Points, ThinCurve
from znn_dask.training.curve import Series
from znn_dask.training.watching import Run, Watcher

_TRAIN_POINTS, _VALIDATION_POINTS = 400, 200


class Publisher(Watcher):
    """Sends rates, curves and checkpoints to the page `/znn`, about once a second."""

    def begin(self, run: Run) -> None:
        self._run = run
        self._channel = Channel(run.trainer.client, "training")
        self._began = time.time()
        self._message, self._saved = "", 0
        self._train = _Follower(run.trainer.curve.train, _TRAIN_POINTS)
        self._validation = _Follower(run.trainer.curve.validation, _VALIDATION_POINTS)
        self._look()
        self._judge()
        network = run.trainer.network
        self._about: Message = {
            "title": Path(str(run.trainer.folder)).name or str(run.trainer.folder),
            "folder": str(run.trainer.folder),
            "job": run.job,
            "first": run.first,
            "last": run.last,
            "voxels": run.voxels,
            "loss_name": run.trainer.loss,
            "layers": [
                [node.name, [edge.name for edge in network.edges_into(node.name)]]
                for node in network.topological
            ],
            "began": self._began,
        }
        self._channel.offer(lambda: self._state("running"))

    def update(self, step: int, loss: float) -> None:
        self._look()
        self._channel.offer(lambda: self._state("running"))

    def validated(self, step: int, loss: float) -> None:
        self._judge()
        self.update(step, loss)

    def saved(self, step: int, checkpoint: str | Path) -> None:
        self._saved = step

    def message(self, text: str) -> None:
        self._message = text

    def end(self) -> None:
        error = sys.exception()
        if error is not None:
            self._message = " ".join(f"{type(error).__name__}: {error}".split())
        done = self._run.trainer.step >= self._run.last
        state = "failed" if error is not None else "finished" if done else "stopped"
        self._look()
        self._channel.close(lambda: self._state(state))

    def _look(self) -> None:
        """Note what of the trainer may be read later, in another thread."""
        curve = self._run.trainer.curve
        self._step = self._run.trainer.step
        self._train.length, self._validation.length = len(curve.train), len(curve.validation)

    def _judge(self) -> None:
        best = self._run.trainer.curve.best()
        self._best = None if best is None else [best.step, best.loss]

    def _state(self, state: str) -> Message:
        trainer = self._run.trainer
        return {
            **self._about,
            "state": state,
            "step": self._step,
            "eta": trainer.optimizer.eta_at(self._step),
            "train": self._train.points(),
            "validation": self._validation.points(),
            "best": self._best,
            "saved": self._saved,
            "message": self._message,
        }


class _Follower:
    """A thin copy of a series that grows, or is cut when updates are made again.

    Where it is cut while it is read, IndexError is raised, and the next reading is right.
    """

    def __init__(self, series: Series, most: int) -> None:
        self._series, self._most = series, most
        self.length = 0
        """How far the series may be read."""
        self._thin, self._seen, self._last = ThinCurve(most), 0, -1

    def points(self) -> Points:
        series, seen = self._series, self._seen
        if self.length < seen or (seen and series[seen - 1].step != self._last):
            self._thin, self._seen = ThinCurve(self._most), 0
        while self._seen < self.length:
            point = series[self._seen]
            self._thin.append(point.step, point.loss)
            self._last = point.step
            self._seen += 1
        return self._thin.points()
