"""The schedule: a discrete-event simulation of ZNN's rule on a number of threads.

The simulation drives the very state machine that the worker's engine runs (`Rule`), with simulated
threads and the estimated seconds of each task. It predicts the time of a step, gives every task its
rank (the order in which the simulation starts them), and draws machines that we do not have.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from znn_dask.taskgraph.execution import STEPS_AHEAD
from znn_dask.taskgraph.machine import Machine
from znn_dask.taskgraph.rule import Job, Rule
from znn_dask.taskgraph.steps import Step, critical_path, remaining_paths
from znn_dask.taskgraph.tasks import Task, TaskId
from znn_dask.taskgraph.timeline import Span


@dataclass(frozen=True)
class Schedule:
    """What the simulation saw.

    Attributes
    ----------
    ranks
        Place of each task in the order in which a steady step starts them; the engine's priority.
    spans
        Every simulated job, with its thread, start, end (seconds), type and whether it was forced.
    patches
        The patch of each of them, `ALL` for what belongs to all patches.
    starts, ends
        Seconds when the type-1 tasks of each step began and were done.
    makespan
        Seconds until the last job ended.
    step_seconds
        Seconds per step in the steady state.
    critical_path
        Seconds of the longest chain from a kernel to its renewal: no number of threads makes a
        step of training shorter. Of a pass without updates, the longest chain from load to output,
        which bounds no step, as passes over several patches overlap.
    work
        Seconds of all tasks of one step together.
    bound
        Seconds below which no schedule brings a step in the steady state:
        max(work / threads, critical path).
    tasks, forced
        Jobs of a step, and how many of them were forced.
    """

    ranks: Mapping[TaskId, int]
    spans: tuple[Span, ...]
    patches: tuple[int, ...]
    starts: tuple[float, ...]
    ends: tuple[float, ...]
    makespan: float
    step_seconds: float
    critical_path: float
    work: float
    bound: float
    tasks: int
    forced: float
    threads: int

    @property
    def efficiency(self) -> float:
        """Share of the threads' time that is work, in the steady state."""
        return self.work / (self.threads * self.step_seconds) if self.step_seconds else 1.0

    @property
    def over_bound(self) -> float:
        """By what share a steady step takes longer than the bound."""
        return self.step_seconds / self.bound - 1 if self.bound else 0.0


def simulate(
    tasks: Sequence[Task],
    threads: int,
    *,
    steps: int = 6,
    patches: int = 1,
    job_seconds: float = Machine.job_seconds,
    steps_ahead: int = STEPS_AHEAD,
    overlap: int | None = None,
    rule: Callable[[], Rule] = Rule,
) -> Schedule:
    """Run `steps` steps on `threads` simulated threads by ZNN's rule.

    Type-1 tasks of an earlier step come before those of a later one. Ranks are read from the
    second of the steps (the first when there is only one), which begins with updates pending.

    Parameters
    ----------
    tasks
        The typed tasks of one patch's step (`expand`).
    patches
        Patches of one step on this worker; their gradients are added before the update.
    job_seconds
        What the engine spends on a task besides its arithmetic.
    steps_ahead
        Steps that may be queued behind the one that is under way.
    overlap
        Patches of a step whose kernel gradients may be missing at a time (`Execution.overlap`);
        without it all of them.
    rule
        Another policy than ZNN's, for comparison.
    """
    step = Step(tasks, patches, job_seconds, overlap or patches)
    run = _Run(step, steps, rule(), steps_ahead)
    run.go(threads)
    first, last = min(1, steps - 1), max(steps - 2, 0)
    period = (run.ends[last] - run.ends[first]) / (last - first) if last > first else 0.0
    path, returns = critical_path(step)
    work = sum(step.seconds)
    makespan = max((span.end for span in run.spans), default=0.0)
    return Schedule(
        ranks={task: rank for rank, task in enumerate(run.order[first])},
        spans=tuple(run.spans),
        patches=tuple(run.patches),
        starts=tuple(run.starts),
        ends=tuple(run.ends),
        makespan=makespan,
        step_seconds=period or makespan / steps,
        critical_path=path,
        work=work,
        bound=max(work / threads, path if returns else 0.0),
        tasks=len(step.tasks),
        forced=sum(span.forced for span in run.spans) / steps,
        threads=threads,
    )


class _Run:
    """Some steps on their way through a rule."""

    def __init__(self, step: Step, steps: int, rule: Rule, steps_ahead: int) -> None:
        paths = remaining_paths(step)
        by_path = sorted(range(len(paths)), key=lambda i: -paths[i])
        self._step, self._rule, self._ahead = step, rule, steps_ahead
        self._place = {i: rank for rank, i in enumerate(by_path)}
        self._released: list[list[Job]] = []
        self._origin: dict[Job, tuple[int, int]] = {}
        self._pending = [step.type1] * steps
        self.order: list[dict[TaskId, None]] = [{} for _ in range(steps)]
        self.starts = [0.0] * steps
        self.ends = [0.0] * steps
        self.spans: list[Span] = []
        self.patches: list[int] = []

    def go(self, threads: int) -> None:
        """Until all steps are done."""
        self._release()
        free = list(range(threads))
        running: list[tuple[float, int, int, Job]] = []
        clock = 0.0
        while True:
            while free and (ready := self._rule.take()) is not None:
                thread = heapq.heappop(free)
                end = clock + self._start(ready, thread, clock)
                heapq.heappush(running, (end, len(self.spans), thread, ready))
            if not running:
                return
            clock, _, thread, done = heapq.heappop(running)
            heapq.heappush(free, thread)
            self._finish(done, clock)

    def _start(self, job: Job, thread: int, clock: float) -> float:
        step, i = self._origin[job]
        seconds = self._step.seconds[i]
        if job.type == 1 and self._pending[step] == self._step.type1:
            self.starts[step] = self.starts[step] or clock
        span = Span(thread, clock, clock + seconds, job.name, job.type, job.forced, step)
        self.spans.append(span)
        self.patches.append(self._step.patches[i])
        self.order[step].setdefault(self._step.tasks[i].id)
        return seconds

    def _finish(self, job: Job, clock: float) -> None:
        step, _ = self._origin[job]
        if job.type == 1:
            self._pending[step] -= 1
            self.ends[step] = clock
        self._rule.finish(job)
        if job.type == 1 and self._pending[step] == 0:
            self._release()

    def _release(self) -> None:
        """Queue the steps that may be under way now."""
        under_way = sum(left > 0 for left in self._pending[: len(self._released)])
        while len(self._released) < len(self._pending) and under_way <= self._ahead:
            self._add(len(self._released))
            under_way += self._pending[len(self._released) - 1] > 0

    def _add(self, number: int) -> None:
        previous = self._released[-1] if self._released else []
        jobs: list[Job] = []
        for i, task in enumerate(self._step.tasks):
            needs = [jobs[need] for need in self._step.needs[i]]
            needs += [previous[need] for need in self._step.needs_previous[i] if previous]
            priority = (number, max(self._step.patches[i], 0), self._place[i])
            job = Job(task.id, task.type, priority, needs)
            jobs.append(job)
            self._origin[job] = number, i
            self._rule.add(job)
        self._released.append(jobs)
