"""One step as a graph of numbered tasks, for any number of patches, and its longest paths.

    patch 0   load ─> forward ─> loss ─> backward ─> kernel_gradient ─┐
    patch 1   load ─> forward ─> loss ─> backward ─> kernel_gradient ─┴─ add ─> update ─> ...

Numbers run in an order in which every task follows what it needs.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from znn_dask.taskgraph.tasks import LOAD, Task, TaskId

_RENEWING = frozenset({"update", "bias_update", "kernel_spectrum"})
_SUMMED = frozenset({"kernel_gradient", "bias_gradient"})
_ADDITION = 3 / 8  # three passes over a kernel, where its update makes eight

ALL = -1
"""Stands for a patch where a task belongs to all patches of a step."""


class Step:
    """The tasks of one step over a batch of patches.

    Attributes
    ----------
    tasks
        Every task once per patch, additions (under the name of what they add), and what renews
        the kernels once.
    patches
        The patch that each belongs to; `ALL` for what belongs to all, such as additions.
    needs, needs_previous
        Numbers of the tasks of this step and of the step before that each waits for.
    seconds
        Of each task, with `job_seconds` for the engine.
    """

    def __init__(
        self, tasks: Sequence[Task], patches: int, job_seconds: float, overlap: int = 1
    ) -> None:
        self.tasks: list[Task] = []
        self.patches: list[int] = []
        self.needs: list[list[int]] = []
        self.needs_previous: list[list[int]] = []
        self.seconds: list[float] = []
        self._job_seconds = job_seconds
        update_seconds = {t.id[1:]: t.seconds for t in tasks if t.id.kind == "update"}
        of_patch: list[dict[TaskId, int]] = [{} for _ in range(patches)]
        total: dict[TaskId, int] = {}  # what belongs to all patches

        def of_all(needs: Iterable[TaskId]) -> list[int]:
            found = ([total[n]] if n in total else [at[n] for at in of_patch] for n in needs)
            return [number for numbers in found for number in numbers]

        for first in range(0, patches, overlap):
            chunk = range(first, min(first + overlap, patches))
            last = chunk.stop == patches
            for task in tasks:
                if task.id.kind in _RENEWING:
                    if last:
                        total[task.id] = self._add(task, ALL, of_all(task.needs))
                    continue
                for patch in chunk:
                    own = of_patch[patch]
                    needs = [own[need] if need in own else total[need] for need in task.needs]
                    if task.id == LOAD and patch >= overlap:
                        before = of_patch[patch - overlap].items()
                        needs += [number for name, number in before if name.kind in _SUMMED]
                    own[task.id] = self._add(task, patch, needs)
                if last and task.id.kind in _SUMMED:
                    numbers = [own[task.id] for own in of_patch]
                    total[task.id] = self._sum(task, numbers, update_seconds.get(task.id[1:], 0.0))
        known = {task.id for task in tasks}
        for number, task in enumerate(self.tasks):
            self.needs_previous[number] = of_all(n for n in task.needs_previous if n in known)

    @cached_property
    def type1(self) -> int:
        """How many of the tasks are of type 1."""
        return sum(task.type == 1 for task in self.tasks)

    def _sum(self, task: Task, numbers: list[int], seconds: float) -> int:
        """Add in pairs, as gradients are over the patches of a batch; the number of the total."""
        while len(numbers) > 1:
            pairs = [numbers[i : i + 2] for i in range(0, len(numbers), 2)]
            addition = Task(task.id, (), seconds=_ADDITION * seconds)
            numbers = [self._add(addition, ALL, p) if len(p) > 1 else p[0] for p in pairs]
        return numbers[0]

    def _add(self, task: Task, patch: int, needs: list[int]) -> int:
        self.tasks.append(task)
        self.patches.append(patch)
        self.needs.append(needs)
        self.needs_previous.append([])
        self.seconds.append(task.seconds + self._job_seconds)
        return len(self.tasks) - 1


def remaining_paths(step: Step) -> list[float]:
    """Seconds of the longest chain that begins with each task, through the next step's tasks.

    ZNN orders tasks by it. The tasks that renew the kernels are counted with the forward pass that
    reads them, so the kernels of the first layers, needed first, come first.
    """
    within = _paths(step, [0.0] * len(step.tasks))
    after = [0.0] * len(step.tasks)
    for number, needs in enumerate(step.needs_previous):
        for need in needs:
            after[need] = max(after[need], within[number])
    return _paths(step, after)


def critical_path(step: Step) -> tuple[float, bool]:
    """(seconds of the longest chain that leads back to where it began one step later, True).

    Such a chain reads a result of the step before and ends by renewing it. Where there is none, as
    in a forward pass alone: (seconds of the longest chain within the step, False).
    """
    renewed = sorted({need for needs in step.needs_previous for need in needs})
    column = {number: i for i, number in enumerate(renewed)}
    longest = np.full((len(step.tasks), len(renewed)), -np.inf)  # [task, where the chain began]
    for number, path in enumerate(longest):
        path[[column[need] for need in step.needs_previous[number]]] = 0.0
        for need in step.needs[number]:
            np.maximum(path, longest[need], out=path)
        path += step.seconds[number]
    loops = [longest[number, i] for number, i in column.items()]
    if max(loops, default=-np.inf) > 0:
        return float(max(loops)), True
    return max(_paths(step, [0.0] * len(step.tasks)), default=0.0), False


def _paths(step: Step, after: Sequence[float]) -> list[float]:
    paths = list(after)
    for number in reversed(range(len(step.tasks))):
        paths[number] += step.seconds[number]
        for need in step.needs[number]:
            paths[need] = max(paths[need], paths[number])
    return paths
