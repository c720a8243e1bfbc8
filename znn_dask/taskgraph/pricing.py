"""Seconds of the typed tasks on this machine: measured where known, else estimated.

An estimate is what `TaskCost` counts times a factor for each kind of task, fitted to whatever was
measured here of other networks.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from znn_dask.taskgraph.layers import Layers
from znn_dask.taskgraph.machine import cores
from znn_dask.taskgraph.signature import signature
from znn_dask.taskgraph.tasks import Task
from znn_dask.taskgraph.timings import Timing, Timings


def threads_at_work(threads: int) -> int:
    """Threads that compete in a measurement made for a plan of `threads` threads."""
    return min(threads, cores())


def price(
    counted: Sequence[Task],
    layers: Layers,
    timings: Timings,
    threads: int,
    *,
    training: bool,
    prompt: bool = False,
) -> tuple[tuple[Task, ...], float]:
    """The tasks with seconds of this machine, and the share of these that was measured.

    Parameters
    ----------
    counted
        Tasks with the seconds that `TaskCost` counts.
    timings
        What is known of the machine.
    threads
        Threads of the plan.
    prompt
        What the execution of these tasks says.
    """
    known = timings.tasks.get(threads_at_work(threads), {})
    factors = _factors(known or _any(timings))
    priced = []
    measured = total = 0.0
    for task in counted:
        timing = known.get(signature(layers, task.id, training=training, prompt=prompt))
        if timing is not None:
            seconds = timing.seconds
            measured += seconds
        else:
            seconds = task.seconds * factors.get(task.id.kind, factors.get("", 1.0))
        total += seconds
        priced.append(replace(task, seconds=seconds))
    return tuple(priced), measured / total if total else 0.0


def _any(timings: Timings) -> Mapping[str, Timing]:
    """Of the fewest threads of which anything is known."""
    return next(iter(timings.tasks.values()), {})


def _factors(known: Mapping[str, Timing]) -> dict[str, float]:
    """Kind of task ("" for all together) -> measured seconds per counted second."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for task, timing in known.items():
        for kind in (task.partition(" ")[0], ""):
            sums[kind][0] += timing.seconds
            sums[kind][1] += timing.counted
    return {kind: seconds / counted for kind, (seconds, counted) in sums.items() if counted}
