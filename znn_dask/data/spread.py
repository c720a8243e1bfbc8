"""Work on many blocks at a time: threads of this process, or the workers of a Dask client."""

import itertools
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")


def spread(
    work: Callable[[T], Any],
    items: Iterable[T],
    *,
    name: str,
    client: Any = None,
    threads: int | None = None,
) -> Iterator[T]:
    """Yield each item when `work(item)` is done, in any order.

    Few items are under way at a time, so that neither memory nor the scheduler fills up. `work` and
    the items are pickled for the workers of `client`, where the tasks are called `name`; a worker
    that dies has its items done again elsewhere. Without a client `threads` do it, one per core by
    default. The first error ends the work.
    """
    if client is None:
        yield from _in_threads(work, items, threads or len(os.sched_getaffinity(0)))
    else:
        yield from _on_workers(work, items, name, client)


def _in_threads(work: Callable[[T], Any], items: Iterable[T], threads: int) -> Iterator[T]:
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        running = {pool.submit(work, item): item for item in itertools.islice(rest, threads)}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    item = running.pop(future)
                    future.result()
                    for following in itertools.islice(rest, 1):
                        running[pool.submit(work, following)] = following
                    yield item
        finally:
            for future in running:
                future.cancel()


def _on_workers(
    work: Callable[[T], Any], items: Iterable[T], name: str, client: Any
) -> Iterator[T]:
    from distributed import as_completed

    rest, running = iter(items), as_completed()
    waiting: dict[str, T] = {}

    def submit(number: int) -> None:
        for item in itertools.islice(rest, number):
            # Every run has keys of its own: what a former run computed says nothing of the disk.
            key = f"{name}-{uuid.uuid4().hex}"
            waiting[key] = item
            running.add(client.submit(work, item, key=key, pure=False))

    submit(2 * max(1, sum(client.nthreads().values())))
    try:
        for future in running:
            future.result()
            item = waiting.pop(future.key)
            submit(1)
            yield item
    finally:
        client.cancel(list(running.futures))
