"""Running the blocks of a job on the workers of a Dask cluster.

One task per block, pinned to the worker with the most room, so that each worker's memory is bounded
by its own threads; a lost worker's blocks go to any other (`allow_other_workers`).  A task leaves
Dask's thread pool at once and computes in one of `lanes` threads that live as long as the run: so
the next block is read while others compute, and FFT plans and buffers, kept per thread, last.
"""

import contextlib
import math
import threading
import time
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, Future, as_completed, get_worker, secede
from threadpoolctl import threadpool_limits

from znn_dask.cluster.members import present_workers
from znn_dask.inference.blocks import PredictionError
from znn_dask.inference.drivers import OVERLAP, RETRIES, Need, failure
from znn_dask.inference.job import BlockReport, Job, run_block

# How old our picture of the cluster may be, seconds.
REFRESH = 2.0
# What a worker's memory may hold besides blocks: interpreter, kernel spectra, other sessions.
USABLE = 0.7

_pools: dict[tuple[str, str], "Lanes"] = {}
_pools_lock = threading.Lock()


@dataclass
class Room:
    """Blocks that one worker may hold (`capacity`, of which `lanes` compute) and holds (`load`)."""

    lanes: int
    load: int = 0

    @property
    def capacity(self) -> int:
        return self.lanes + OVERLAP


class Lanes:
    """The threads that compute one attempt's blocks on one worker, with one BLAS thread each."""

    def __init__(self, count: int) -> None:
        self.pool = ThreadPoolExecutor(count, "predict-compute")
        # Worker processes begin with this limit, workers within another process do not.
        self.limits = threadpool_limits(1)


def block_task(job: Job, index: int, lanes: int, attempt: str) -> BlockReport:
    """One Dask task: `run_block` in the lanes of this attempt on this worker."""
    worker = get_worker().address
    secede()
    return run_block(job, index, _lane(attempt, worker, lanes))


def _lane(attempt: str, worker: str, lanes: int) -> ThreadPoolExecutor:
    # Workers may share a process, so it takes both.
    key = (attempt, worker)
    with _pools_lock:
        if key not in _pools:
            _pools[key] = Lanes(lanes)
        return _pools[key].pool


def forget(attempt: str) -> None:
    """Let go of the threads of an attempt; they end after the blocks that are still in them."""
    with _pools_lock:
        for key in [key for key in _pools if key[0] == attempt]:
            _pools.pop(key).limits.restore_original_limits()


def run_on_dask(
    job: Job, blocks: Iterable[int], client: Client, need: Need, memory: int | None
) -> Generator[BlockReport]:
    """Run `blocks` on `client`'s workers; reports as they finish.

    memory: bytes that blocks may take on each worker; None: most of what the worker has
    Raises PredictionError naming the block that failed. Closing the iterator, or an interrupt,
    cancels what has not begun.
    """
    attempt = f"{job.markers.run}-{time.time_ns() & 0xFFFFFF:06x}"
    todo = iter(blocks)
    running: dict[Future, tuple[int, str]] = {}
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 PB"}):
        # A task and not scattered data: when its worker is lost, Dask makes it anew.
        shared = client.submit(_same, job, key=("predict:network", attempt), pure=False)
    try:
        crew = Crew(client, need, memory)
        finished = as_completed(loop=client.loop, raise_errors=False)
        queued = next(todo, None)
        while running or queued is not None:
            while queued is not None and (address := crew.vacancy(running)) is not None:
                future = client.submit(
                    block_task,
                    shared,
                    queued,
                    crew.rooms[address].lanes,
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
    """Which worker has room for another block; follows workers that come and go."""

    def __init__(self, client: Client, need: Need, memory: int | None) -> None:
        self.client = client
        self.need = need
        self.memory = memory
        self.rooms: dict[str, Room] = {}
        self.seen = -math.inf

    def vacancy(self, running: dict[Future, tuple[int, str]]) -> str | None:
        """Address of the worker with the most room, None if all are full."""
        if time.monotonic() - self.seen > REFRESH:
            self._look()
        for room in self.rooms.values():
            room.load = 0
        for _, address in running.values():
            if address in self.rooms:
                self.rooms[address].load += 1
        if not self.rooms or len(running) >= sum(r.capacity for r in self.rooms.values()):
            return None
        address = min(self.rooms, key=lambda a: self.rooms[a].load / self.rooms[a].capacity)
        room = self.rooms[address]
        return address if room.load < room.capacity else None

    def _look(self) -> None:
        workers = present_workers(self.client)
        usable = {address: self._usable(worker) for address, worker in workers.items()}
        if workers:  # refuse when the roomiest is too small, pass over the others that are
            self.need.check(max(usable.values()))
        lanes = {a: self.need.lanes(w["nthreads"], usable[a]) for a, w in workers.items()}
        self.rooms = {address: Room(count) for address, count in lanes.items() if count}
        self.seen = time.monotonic()

    def _usable(self, worker: dict[str, Any]) -> int:
        if self.memory is not None:
            return self.memory
        limit = int(USABLE * worker["memory_limit"])
        # A worker without a limit is trusted with a block on each thread.
        return limit or self.need.shared + self.need.block * worker["nthreads"]


def _reason(future: Future) -> BaseException:
    error = future.exception() if future.status == "error" else None
    return error or PredictionError(f"its task was {future.status} by the scheduler")


def _same(job: Job) -> Job:
    return job
