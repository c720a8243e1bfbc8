"""Running the blocks of a job: on threads of this process, or on the workers of a Dask cluster.

Both run `run_block` for each block, hold a bounded number in flight, and try a failed block again.
"""

from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from znn_dask.inference.blocks import PredictionError
from znn_dask.inference.job import BlockReport, Job, run_block
from znn_dask.inference.sizing import mib

RETRIES = 2
# Blocks that read or write while the others compute.
OVERLAP = 1


@dataclass(frozen=True)
class Need:
    """Memory of a prediction: of each block in flight, and once per process, bytes."""

    block: int
    shared: int

    def lanes(self, threads: int, memory: int) -> int:
        """How many blocks may compute at a time; 0 when not even one fits."""
        return max(0, min(threads, (memory - self.shared) // self.block))

    def check(self, memory: int) -> None:
        """Raise PredictionError when not even one block fits into `memory`."""
        if self.lanes(1, memory) < 1:
            raise PredictionError(
                f"one block needs about {mib(self.block + self.shared)} but only {mib(memory)} may "
                "be used: raise memory_limit or give a smaller block"
            )


def failure(job: Job, index: int, error: BaseException) -> PredictionError:
    """The one line that a user gets for a block that failed for good."""
    text = " ".join(str(error).split()) or "no message"
    return PredictionError(
        f"{job.plan.at(index)} failed {RETRIES + 1} times, last with {type(error).__name__}: "
        f"{text}; finished blocks are kept: run again to continue"
    )


def run_local(job: Job, blocks: Iterable[int], lanes: int) -> Generator[BlockReport]:
    """Run `blocks` on this process's threads, `lanes` computing at a time; reports as they finish.

    Closing the iterator, or an interrupt, lets blocks that have begun finish, and begins no more.
    Raises PredictionError naming the block that failed.
    """
    todo = iter(blocks)
    # One BLAS thread per lane: the blocks are the parallelism.
    with (
        threadpool_limits(1),
        ThreadPoolExecutor(lanes, "predict-compute") as lane,
        ThreadPoolExecutor(lanes + OVERLAP, "predict-block") as pool,
    ):
        running: dict[Future[BlockReport], int] = {}

        def feed() -> None:
            while len(running) < lanes + OVERLAP and (k := next(todo, None)) is not None:
                running[pool.submit(_persistent, job, k, lane)] = k

        feed()
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index = running.pop(future)
                error = future.exception()
                if error is not None:
                    raise failure(job, index, error) from error
                feed()
                yield future.result()


def _persistent(job: Job, index: int, lane: ThreadPoolExecutor) -> BlockReport:
    for _ in range(RETRIES):
        try:
            return run_block(job, index, lane)
        except Exception:
            continue
    return run_block(job, index, lane)
