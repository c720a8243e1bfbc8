"""The schedule: a discrete-event simulation of ZNN's rule on a number of threads.

The simulation drives the very state machine that the worker's engine runs (`Rule`), with simulated
threads and the estimated seconds of each task. It predicts the time of a step, gives every task its
rank (the order in which the simulation starts them), and draws machines that we do not have.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from znn_dask.taskgraph.engine import Span
from znn_dask.taskgraph.machine import Machine
from znn_dask.taskgraph.rule import Job, Rule
from znn_dask.taskgraph.tasks import Task, TaskId


@dataclass(frozen=True)
class Schedule:
    """What the simulation saw.

    Attributes
    ----------
    ranks
        Place of each task in the order in which a steady step starts them; the engine's priority.
    spans
        Every simulated job, with its thread, start, end (seconds), type and whether it was forced.
    makespan
        Seconds until the last job ended.
    step_seconds
        Seconds per step in the steady state.
    critical_path
        Seconds of the longest chain within one step: no number of threads makes a single step
        faster. Steady steps may be, as updates of one overlap the forward pass of the next.
    work
        Seconds of all tasks of one step together.
    """

    ranks: Mapping[TaskId, int]
    spans: tuple[Span, ...]
    makespan: float
    step_seconds: float
    critical_path: float
    work: float
    threads: int

    @property
    def efficiency(self) -> float:
        """Share of the threads' time that is work, in the steady state."""
        return self.work / (self.threads * self.step_seconds) if self.step_seconds else 1.0


def remaining_paths(tasks: Sequence[Task], job_seconds: float = 0.0) -> dict[TaskId, float]:
    """Seconds of the longest chain that begins with each task, through the next step's tasks.

    ZNN orders tasks by it. The tasks that renew the kernels are counted with the forward pass that
    reads them, so the kernels of the first layers, needed first, come first.
    """
    within = _paths(tasks, {}, job_seconds)
    next_step: dict[TaskId, float] = {}
    for task in tasks:
        for need in task.needs_previous:
            next_step[need] = max(next_step.get(need, 0.0), within[task.id])
    return _paths(tasks, next_step, job_seconds)


def _paths(
    tasks: Sequence[Task], after: Mapping[TaskId, float], job_seconds: float
) -> dict[TaskId, float]:
    tail = dict(after)
    paths: dict[TaskId, float] = {}
    for task in reversed(tasks):
        path = paths[task.id] = tail.get(task.id, 0.0) + task.seconds + job_seconds
        for need in task.needs:
            tail[need] = max(tail.get(need, 0.0), path)
    return paths


def simulate(
    tasks: Sequence[Task],
    threads: int,
    *,
    steps: int = 3,
    job_seconds: float = Machine.job_seconds,
) -> Schedule:
    """Run `steps` steps on `threads` simulated threads by ZNN's rule.

    Type-1 tasks of an earlier step come before those of a later one. Ranks are read from the
    second of the steps (the first when there is only one), which begins with updates pending.
    """
    paths = remaining_paths(tasks, job_seconds)
    order = sorted(range(len(tasks)), key=lambda i: -paths[tasks[i].id])
    place = {tasks[i].id: rank for rank, i in enumerate(order)}
    rule = Rule()
    seconds = {task.id: task.seconds + job_seconds for task in tasks}
    origin: dict[Job, tuple[int, TaskId]] = {}
    previous: dict[TaskId, Job] = {}
    for step in range(steps):
        jobs: dict[TaskId, Job] = {}
        for task in tasks:
            needs = [jobs[need] for need in task.needs]
            needs += [previous[need] for need in task.needs_previous if need in previous]
            job = jobs[task.id] = Job(task.id, task.type, (step, place[task.id]), needs)
            origin[job] = step, task.id
            rule.add(job)
        previous = jobs

    spans: list[Span] = []
    starts: list[list[TaskId]] = [[] for _ in range(steps)]
    ends = [0.0] * steps
    free = list(range(threads))
    running: list[tuple[float, int, int, Job]] = []
    clock = 0.0
    while True:
        while free and (ready := rule.take()) is not None:
            thread = heapq.heappop(free)
            step, identity = origin[ready]
            end = clock + seconds[identity]
            heapq.heappush(running, (end, len(spans), thread, ready))
            spans.append(Span(thread, clock, end, ready.name, ready.type, ready.forced))
            starts[step].append(identity)
        if not running:
            break
        clock, _, thread, done = heapq.heappop(running)
        heapq.heappush(free, thread)
        if done.type == 1:
            ends[origin[done][0]] = clock
        rule.finish(done)

    steady = starts[min(1, steps - 1)]
    return Schedule(
        ranks={task: rank for rank, task in enumerate(steady)},
        spans=tuple(spans),
        makespan=clock,
        step_seconds=ends[-1] - ends[-2] if steps > 1 else clock,
        critical_path=_critical_path(tasks, job_seconds),
        work=sum(seconds.values()),
        threads=threads,
    )


def _critical_path(tasks: Sequence[Task], job_seconds: float) -> float:
    """Seconds of the longest chain from one step's start to the kernels of the next."""
    return max(_paths(tasks, {}, job_seconds).values(), default=0.0)
