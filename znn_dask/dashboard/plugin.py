"""The scheduler's side: fills a board from events and heartbeats."""

import logging
import time
from collections.abc import Iterator
from typing import Any

from distributed import Scheduler, SchedulerPlugin
from tornado.ioloop import PeriodicCallback

from znn_dask.cluster.figures import FIGURES
from znn_dask.dashboard.board import Board, WorkerFigures, nothing
from znn_dask.dashboard.channel import TOPIC
from znn_dask.dashboard.view import view

NAME = "znn-board"

_SAMPLE_MILLISECONDS = 1000
_BLOCK = "predict:block"

logger = logging.getLogger(__name__)


class BoardPlugin(SchedulerPlugin):
    """Keeps the board of one scheduler. What goes wrong here is logged, and harms nothing else."""

    name = NAME

    def __init__(self, scheduler: Scheduler) -> None:
        self.board = Board()
        self._scheduler = scheduler
        self._sampling = PeriodicCallback(self._sample, _SAMPLE_MILLISECONDS)
        self._sampling.start()

    def view(self) -> dict[str, Any]:
        """What the page shows now."""
        return view(self.board, time.time(), set(self._blocks()))

    def log_event(self, topic: str, msg: Any) -> None:
        if topic != TOPIC:
            return
        try:
            self.board.receive(msg, time.time())
        except Exception as error:
            logger.warning("message for the page /znn not understood: %r", error)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        self.board.left(client)

    async def before_close(self) -> None:
        self._sampling.stop()

    def _sample(self) -> None:
        try:
            self.board.sample(list(self._workers()), time.time())
        except Exception as error:
            logger.warning("figures of the workers not understood: %r", error)

    def _workers(self) -> Iterator[WorkerFigures]:
        for worker in self._scheduler.workers.values():
            figures = worker.metrics.get(FIGURES) or nothing(worker.address)
            memory, limit = int(worker.metrics.get("memory", 0)), int(worker.memory_limit)
            yield WorkerFigures(worker.address, worker.nthreads, memory, limit, figures)

    def _blocks(self) -> Iterator[tuple[str, int]]:
        """(prediction and attempt, block) of the blocks that are with workers."""
        for worker in self._scheduler.workers.values():
            for task in worker.processing:
                key = task.key
                if isinstance(key, tuple) and len(key) == 3 and key[0] == _BLOCK:
                    yield str(key[1]), int(key[2])
