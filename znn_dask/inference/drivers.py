"""Running the blocks of a job: on threads of this process, or on the workers of a Dask cluster.

Both run `run_block` for each block, hold a bounded number in flight, and try a failed block again.
"""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from znn_dask.inference.blocks import PredictionError
from znn_dask.inference.job import BlockReport, Job, Lanes, run_block
from znn_dask.inference.need import OVERLAP, Room

RETRIES = 2


def failure(job: Job, index: int, error: BaseException) -> PredictionError:
    """The one line that a user gets for a block that failed for good."""
    text = " ".join(str(error).split()) or "no message"
    return PredictionError(
        f"{job.plan.at(index)} failed {RETRIES + 1} times, last with {type(error).__name__}: "
        f"{text}; finished blocks are kept: run again to continue"
    )


def run_local(job: Job, blocks: Iterable[int], room: Room) -> Generator[BlockReport]:
    """Run `blocks` on this process's threads, with as many under way as `room` says; reports as
    they finish.

    Closing the iterator, or an interrupt, lets blocks that have begun finish, and begins no more.
    Raises PredictionError naming the block that failed.
    """
    todo = iter(blocks)
    lanes = Lanes(room.patches, room.threads)
    try:
        yield from _run(job, todo, lanes, room.patches + OVERLAP)
    finally:
        lanes.limits.restore_original_limits()


def _run(job: Job, todo: Iterator[int], lanes: Lanes, capacity: int) -> Generator[BlockReport]:
    with ThreadPoolExecutor(capacity, "predict-block") as pool:
        running: dict[Future[BlockReport], int] = {}

        def feed() -> None:
            while len(running) < capacity and (k := next(todo, None)) is not None:
                running[pool.submit(_persistent, job, k, lanes)] = k

        feed()
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                index = running.pop(future)
                error = future.exception()
                if error is not None:
                    raise failure(job, index, error) from error
                feed()
                yield future.result()


def _persistent(job: Job, index: int, lanes: Lanes) -> BlockReport:
    for _ in range(RETRIES):
        try:
            return run_block(job, index, lanes)
        except Exception:
            continue
    return run_block(job, index, lanes)
