"""Running the blocks of a job on the workers of a Dask cluster.

One task per block, pinned to the worker with the most room, so that each worker's memory is bounded
by its own threads; a lost worker's blocks go to any other (`allow_other_workers`).  A task leaves
Dask's thread pool at once and computes in the run's `Lanes` on its worker, so the next block is
read while others compute.
"""

import contextlib
import math
import sys
import threading
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, Future, as_completed, get_worker, secede

from znn_dask.cluster.figures import tell
from znn_dask.cluster.members import present_workers
from znn_dask.inference.blocks import PredictionError
from znn_dask.inference.drivers import RETRIES, failure
from znn_dask.inference.job import BlockReport, Job, Lanes, run_block
from znn_dask.inference.need import OVERLAP, Need, Room

# How old our picture of the cluster may be, seconds.
REFRESH = 2.0
# What a worker's memory may hold besides blocks: interpreter, kernel spectra, other sessions.
USABLE = 0.7

_lanes: dict[tuple[str, str], Lanes] = {}
_lanes_lock = threading.Lock()


@dataclass
class Desk:
    """What one worker may hold (`room`, and a block being read) and holds (`load`)."""

    room: Room
    load: int = 0

    @property
    def capacity(self) -> int:
        return self.room.patches + OVERLAP


def block_task(job: Job, index: int, room: Room, attempt: str) -> BlockReport:
    """One Dask task: `run_block` in the lanes of this attempt on this worker."""
    worker = get_worker()
    tell(worker)
    secede()
    return run_block(job, index, _lanes_of(attempt, worker.address, room))


def _lanes_of(attempt: str, worker: str, room: Room) -> Lanes:
    # Workers may share a process, so it takes both.
    key = (attempt, worker)
    with _lanes_lock:
        if key not in _lanes:
            _lanes[key] = Lanes(room.patches, room.threads, attempt)
        return _lanes[key]


def forget(attempt: str) -> None:
    """Let go of the lanes of an attempt; they end after the blocks that are still in them."""
    with _lanes_lock:
        for key in [key for key in _lanes if key[0] == attempt]:
            _lanes.pop(key).limits.restore_original_limits()


def run_on_dask(job: Job, blocks: Iterable[int], crew: "Crew") -> Generator[BlockReport]:
    """Run `blocks` on the crew's workers; reports as they finish.

    Raises PredictionError naming the block that failed. Closing the iterator, or an interrupt,
    cancels what has not begun.
    """
    client = crew.client
    attempt = f"{job.markers.run}-{time.time_ns() & 0xFFFFFF:06x}"
    todo = iter(blocks)
    running: dict[Future, tuple[int, str]] = {}
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 PB"}):
        # A task and not scattered data: when its worker is lost, Dask makes it anew.
        shared = client.submit(_same, job, key=("predict:network", attempt), pure=False)
    try:
        finished = as_completed(loop=client.loop, raise_errors=False)
        queued = next(todo, None)
        while running or queued is not None:
            while queued is not None and (address := crew.vacancy(running)) is not None:
                future = client.submit(
                    block_task,
                    shared,
                    queued,
                    crew.desks[address].room,
                    attempt,
                    key=("predict:block", attempt, queued),
                    workers=[address],
                    allow_other_workers=True,
                    retries=RETRIES,
                    pure=False,
                )
                running[future] = (queued, address)
                finished.add(future)
                queued = next(todo, None)
            if not running:
                time.sleep(REFRESH / 4)
                continue
            future = next(finished)
            index, _ = running.pop(future)
            if future.status != "finished":
                raise failure(job, index, _reason(future))
            yield future.result()
            future.release()
    finally:
        client.cancel([*running, shared])
        with contextlib.suppress(OSError):  # no connection left: nothing to tidy up
            client.run(forget, attempt, on_error="ignore")


class Crew:
    """Which worker has room for another block; follows workers that come and go.

    memory: bytes that blocks may take on each worker; None: most of what the worker has
    """

    def __init__(self, client: Client, need: Need, memory: int | None) -> None:
        self.client = client
        self.need = need
        self.memory = memory
        self.desks: dict[str, Desk] = {}
        self.seen = -math.inf

    def rooms(self) -> list[Room]:
        """What the present workers hold; raises PredictionError when none has room for a block."""
        self._look()
        return [desk.room for desk in self.desks.values()]

    def vacancy(self, running: dict[Future, tuple[int, str]]) -> str | None:
        """Address of the worker with the most room, None if all are full."""
        if time.monotonic() - self.seen > REFRESH:
            self._look()
        for desk in self.desks.values():
            desk.load = 0
        for _, address in running.values():
            if address in self.desks:
                self.desks[address].load += 1
        if not self.desks or len(running) >= sum(d.capacity for d in self.desks.values()):
            return None
        address = min(self.desks, key=lambda a: self.desks[a].load / self.desks[a].capacity)
        desk = self.desks[address]
        return address if desk.load < desk.capacity else None

    def _look(self) -> None:
        workers = present_workers(self.client)
        usable = {address: self._usable(worker) for address, worker in workers.items()}
        if workers:  # refuse when the roomiest is too small, pass over the others that are
            self.need.fitting(1, max(usable.values()))
        rooms = {a: self.need.room(w["nthreads"], usable[a]) for a, w in workers.items()}
        self.desks = {address: Desk(room) for address, room in rooms.items() if room}
        self.seen = time.monotonic()

    def _usable(self, worker: dict[str, Any]) -> int:
        if self.memory is not None:
            return self.memory
        limit = int(USABLE * worker["memory_limit"])
        # A worker without a limit is trusted with as many blocks as keep it busy.
        return limit or sys.maxsize


def _reason(future: Future) -> BaseException:
    error = future.exception() if future.status == "error" else None
    return error or PredictionError(f"its task was {future.status} by the scheduler")


def _same(job: Job) -> Job:
    return job
