"""Other ways of choosing what runs next, to compare ZNN's rule with.

Each is a `Rule` that sorts ready jobs by another key; the simulation and the engine run them alike.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from dask._task_spec import Task as DaskTask
from dask._task_spec import TaskRef
from dask.order import order

from znn_dask.taskgraph.rule import Job, Priority, Rule
from znn_dask.taskgraph.tasks import Task


class Unforced(Rule):
    """ZNN's priorities and types, but a type-1 job waits until type-2 jobs get their turn."""

    forces = False


class Fifo(Rule):
    """In the order in which jobs become ready."""

    forces = False

    def __init__(self) -> None:
        super().__init__()
        self._clock = itertools.count()

    def key(self, job: Job) -> Priority:
        return (next(self._clock),)


class Lifo(Fifo):
    """What became ready last goes first."""

    def key(self, job: Job) -> Priority:
        return (-next(self._clock),)


class DaskOrder(Rule):
    """The static order that Dask gives the graph of a step, steps one after the other."""

    forces = False

    def __init__(self, ranks: Mapping[tuple[str, str, int], int]) -> None:
        super().__init__()
        self._ranks = ranks

    def key(self, job: Job) -> Priority:
        return (*job.priority[:-1], self._ranks.get(job.name, -1))


class Barriers(Rule):
    """Layer by layer, as frameworks do: nothing of a phase begins before the last one has ended.

    Phases are the forward pass of each layer, the loss, the backward pass of each layer, and then
    gradients, updates and kernel spectra. Patches are loaded at any time.
    """

    forces = False

    def __init__(self, phases: Mapping[tuple[str, str], int]) -> None:
        super().__init__()
        self._phases = phases
        self._running: Counter[Priority] = Counter()

    def phase(self, job: Job) -> Priority:
        """(step, phase); () for what no barrier holds."""
        phase = self._phases.get(job.name[:2], -1)
        return (job.priority[0], phase) if phase >= 0 else ()

    def key(self, job: Job) -> Priority:
        return (*self.phase(job), *job.priority)

    def take(self) -> Job | None:
        job = super().take()
        if job is None:
            return None
        phase = self.phase(job)
        if phase and any(other != phase for other in self._running):
            self._queue(job)
            return None
        if phase:
            self._running[phase] += 1
        return job

    def finish(self, job: Job) -> None:
        phase = self.phase(job)
        super().finish(job)
        if phase:
            self._running[phase] -= 1
            self._running += Counter()  # drops what is zero


def policies(tasks: Sequence[Task]) -> dict[str, Callable[[], Rule]]:
    """Name -> what makes a fresh rule, for the typed tasks of one step."""
    return {
        "ZNN": Rule,
        "unforced": Unforced,
        "FIFO": Fifo,
        "LIFO": Lifo,
        "Dask order": functools.partial(DaskOrder, dask_ranks(tasks)),
        "barriers": functools.partial(Barriers, layer_phases(tasks)),
    }


def dask_ranks(tasks: Sequence[Task]) -> dict[tuple[str, str, int], int]:
    """Places of the tasks in Dask's own order of the step's graph."""
    number = {task.id: i for i, task in enumerate(tasks)}  # as keys: strings hash differently
    graph = {
        number[task.id]: DaskTask(
            number[task.id], _nothing, *(TaskRef(number[n]) for n in task.needs)
        )
        for task in tasks
    }
    places = order(graph)
    return {tuple(task): places[i] for task, i in number.items()}


def layer_phases(tasks: Sequence[Task]) -> dict[tuple[str, str], int]:
    """(kind, layer) -> the phase that a barrier ends."""
    phases: dict[tuple[str, str], int] = {}
    for task in tasks:
        kind, layer, _ = task.id
        if kind in ("forward", "loss", "backward"):
            phases.setdefault((kind, layer), len(phases))
    last = len(phases)
    at_the_end = {"bias_gradient": 0, "kernel_gradient": 0, "bias_update": 1, "update": 1}
    at_the_end["kernel_spectrum"] = 2
    for task in tasks:
        if task.id.kind in at_the_end:
            phases[task.id[:2]] = last + at_the_end[task.id.kind]
    return phases


def _nothing(*_: object) -> None:
    """Stands in for the tasks, of which only the order is asked."""
