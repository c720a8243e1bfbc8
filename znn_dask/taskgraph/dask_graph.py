"""Granules as Dask tasks. The only module that knows Dask's graph classes.

Dask orders tasks by priority only on the worker, so every granule is pinned, carries its priority,
and hangs on one `start` task: an idle worker too then begins in order.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dask
from dask._task_spec import Task, TaskRef
from distributed import Client, Future

from znn_dask.taskgraph.granules import Granule, Key


def submit(
    client: Client,
    granules: Sequence[Granule],
    functions: Mapping[str, Callable[..., Any]],
    workers: Sequence[str],
    keep: Iterable[Key],
) -> dict[Key, Future]:
    """Send granules to the scheduler without waiting; futures of the keys in `keep`.

    What they need of earlier submissions must be held by its futures until this returns.

    Parameters
    ----------
    functions
        `Granule.work` -> the function it calls.
    workers
        Address of every slot.
    """
    own = {granule.key for granule in granules}
    start = ("start", *granules[0].key[1:])
    graph: dict[Any, Task] = {start: Task(start, _nothing)}
    place: dict[Any, Granule] = {}
    for granule in granules:
        needs = [TaskRef(key) for key in granule.needs]
        root = not any(key in own for key in granule.needs)
        work = _after if root else functions[granule.work]
        before = (functions[granule.work], TaskRef(start)) if root else ()
        graph[granule.key] = Task(granule.key, work, *before, *needs, *granule.arguments)
        place[granule.key] = granule

    def priority(key: Any) -> float:
        return place[key].priority if key in place else granules[0].priority

    def worker(key: Any) -> list[str]:
        return [workers[place[key].slot if key in place else granules[0].slot]]

    def kind(key: Any) -> int:
        return place[key].type if key in place else 2

    keys = list(keep)
    with dask.annotate(priority=priority, workers=worker, znn_type=kind):
        futures = client.get(graph, keys, sync=False, fifo_timeout=0)
    return dict(zip(keys, futures, strict=True))


def _nothing() -> None:
    """Roots wait for this: a finished task releases its dependents in order of priority."""


def _after(function: Callable[..., Any], _start: None, *arguments: Any) -> Any:
    return function(*arguments)
