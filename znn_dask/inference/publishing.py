"""A watcher that tells the cluster's dashboard how a prediction goes."""

import sys
import time
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
from distributed import Client

from znn_dask.dashboard.channel import Channel, Message
from znn_dask.inference.blocks import BlockPlan
from znn_dask.inference.watching import Watcher


class Publisher(Watcher):
    """Sends which blocks are done to the page `/znn`, about once a second.

    Parameters
    ----------
    client
        Whose scheduler has the page.
    run
        What the keys of the prediction's tasks, and the names of its tallies, begin with.
    """

    def __init__(self, client: Client, run: str) -> None:
        self._channel = Channel(client, "prediction")
        self._run = run

    def begin(self, plan: BlockPlan, done: Collection[int], place: str) -> None:
        self._done = np.zeros(plan.count, bool)
        self._done[list(done)] = True
        self._about: Message = {
            "title": Path(place).name,
            "place": place,
            "job": self._run,
            "grid": list(plan.grid),
            "block": list(plan.block),
            "shape": list(plan.output_shape),
            "earlier": len(done),
            "began": time.time(),
        }
        self._channel.offer(lambda: self._state("running"))

    def finished(self, block: int) -> None:
        self._done[block] = True
        self._channel.offer(lambda: self._state("running"))

    def end(self) -> None:
        error = sys.exception()
        state = "failed" if error is not None else "finished" if self._done.all() else "stopped"
        message = "" if error is None else " ".join(f"{type(error).__name__}: {error}".split())
        self._channel.close(lambda: {**self._state(state), "message": message})

    def _state(self, state: str) -> Message:
        # Blocks finish nearly in order, so runs of equal bits come to few bytes.
        bits = zlib.compress(np.packbits(self._done).tobytes(), 1)
        return {**self._about, "state": state, "done": bits, "message": ""}
