"""Predictions as jobs: the request that travels, and the driver's part."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from znn_dask.inference.blocks import BlockPlan
from znn_dask.inference.predict import predict as run
from znn_dask.inference.watching import Watcher
from znn_dask.jobs.attempt import Attempt
from znn_dask.jobs.records import Outcome


@dataclass(frozen=True)
class Prediction:
    """A prediction to submit: the arguments of `predict`, by their names.

    Parameters
    ----------
    checkpoint, image, out
        Paths or URLs that all workers see; of a folder of checkpoints, its latest at the time of
        submission is taken.
    options
        Such as border="mirror", augment=8, dtype="uint8".
    """

    checkpoint: str
    image: str
    out: str
    options: dict[str, Any] = field(default_factory=dict)


class _Stopped(Exception):  # noqa: N818 - no error: a user wishes so
    """The prediction ends between two blocks."""


def predict(attempt: Attempt, client: Client) -> tuple[Outcome, str]:
    """Predict as the job says; blocks that earlier attempts finished are not made again."""
    request = attempt.history.description.request
    options = dict(request["options"])
    if attempt.claim.begun:
        options.pop("overwrite", None)
    try:
        run(
            *(request["checkpoint"], request["image"], request["out"]),
            client=client,
            progress=False,
            watchers=[_Recorder(attempt)],
            **options,
        )
    except _Stopped as stopped:
        return "cancelled", str(stopped)
    return "completed", f"map in {request['out']}"


class _Recorder(Watcher):
    """Writes down how the prediction goes."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._blocks: tuple[float, int] = (0.0, 0)

    def begin(self, plan: BlockPlan, done: Collection[int], place: str) -> None:
        self._count, self._done = plan.count, len(done)
        self._blocks = time.monotonic(), len(done)
        self._attempt.report(step=len(done), last=plan.count, begun=True)
        self._attempt.beat()  # before a block is written: the next attempt must not overwrite it
        self._attempt.check()
        self._attempt.say(f"{plan.count - len(done):,} of {plan.count:,} blocks to do, in {place}")

    def finished(self, block: int) -> None:
        self._done += 1
        began, first = self._blocks
        rate = (self._done - first) / max(time.monotonic() - began, 1e-9)
        self._attempt.report(step=self._done, rate=rate)
        if self._attempt.stopping:
            raise _Stopped(f"after block {self._done:,} of {self._count:,}")
