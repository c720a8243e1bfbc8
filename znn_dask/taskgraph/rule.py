"""ZNN's scheduling rule as a state machine without I/O, clocks or threads.

Events go in (`add`, `finish`, `fail`), and `take` answers which job a free thread must run now.
The worker's engine drives it with real threads, the schedule simulation with simulated ones, and
tests with made-up events, so there is one rule and it is written once.

The rule (Zlateski, Lee, Seung 2015, section on the task manager):

* type-1 jobs, whose result spawns new jobs, run first, in order of priority;
* type-2 jobs (kernel spectra, weight updates, patch loading) run only when no type-1 job is ready;
* a type-1 job that lacks only type-2 results *forces* them: they are run at once, in its place.

ZNN's thread runs a forced task inline. Here forcing promotes the type-2 job to the priority of the
job that waits for it, and the free thread takes it next. The order is the same, no thread ever
blocks, and two forced jobs of one layer can run on two threads.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from znn_dask.taskgraph.timeline import Tally

Priority = tuple[int, ...]


class JobState(Enum):
    """Where a job is in its life."""

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


# Looking a member up in its class takes as long as the rest of a comparison.
WAITING, READY, RUNNING, DONE, FAILED = JobState


class Job:
    """One run of a typed task.

    Parameters
    ----------
    name
        `(kind, layer, block)` of the task, for errors and timelines.
    type
        1 if its result spawns new jobs, 2 if it may wait for a gap.
    priority
        Smaller runs first among jobs of its type, e.g. `(step, rank)`.
    needs
        Jobs that must be done before; they may have been added earlier, or be done already.
    run
        What it does; dropped when it has run, with everything it holds.
    tally
        Where its seconds are counted, besides the engine's totals.
    """

    __slots__ = (
        "dependents",
        "error",
        "forced",
        "missing",
        "missing_type1",
        "name",
        "needs",
        "priority",
        "run",
        "state",
        "tally",
        "type",
    )

    def __init__(
        self,
        name: tuple[str, str, int],
        type: int,
        priority: Priority,
        needs: Iterable["Job"] = (),
        run: Callable[[], Any] | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.name = name
        self.type = type
        self.priority = priority
        self.needs: tuple[Job, ...] = tuple(dict.fromkeys(needs))
        self.run = run
        self.tally = tally
        self.state = WAITING
        self.forced = False
        self.error: BaseException | None = None
        self.dependents: list[Job] = []
        self.missing = 0
        self.missing_type1 = 0

    @property
    def finished(self) -> bool:
        """True when it is done or failed."""
        return self.state is DONE or self.state is FAILED

    def __repr__(self) -> str:
        kind, layer, block = self.name
        return f"<Job {kind} {layer}[{block}] type {self.type} {self.state.value}>"


class Rule:
    """Jobs that are waiting or ready, and the choice of the next one.

    What a policy of another kind would do differently is `key`, and whether it `forces`
    (`benchmarks/policies.py` compares some).
    """

    forces = True

    def __init__(self) -> None:
        self._ready: list[tuple[Priority, int, Job]] = []
        self._counter = itertools.count()

    def key(self, job: Job) -> Priority:
        """What a ready job is sorted by, smallest first: type 1 and forced before the gaps."""
        return (0 if job.type == 1 or job.forced else 1, *job.priority)

    def add(self, job: Job) -> None:
        """A new job; its needs must have been added before (or be finished)."""
        for need in job.needs:
            if need.state is DONE:
                continue
            if need.state is FAILED:
                job.error = need.error
            else:
                need.dependents.append(job)
                job.missing += 1
                job.missing_type1 += need.type == 1
        if job.error is not None:
            self.fail(job, job.error)
        else:
            self._advance(job)

    @property
    def ready(self) -> int:
        """How many jobs may be ready to run (promoted jobs are counted twice)."""
        return len(self._ready)

    def take(self) -> Job | None:
        """The job that a free thread runs now, or None when nothing is ready."""
        while self._ready:
            job = heapq.heappop(self._ready)[2]
            if job.state is READY:
                job.state = RUNNING
                return job
        return None

    def finish(self, job: Job) -> None:
        """`job` has run: what waited only for it becomes ready."""
        job.state = DONE
        dependents, job.dependents = job.dependents, []
        job.needs, job.run = (), None
        for dependent in dependents:
            dependent.missing -= 1
            dependent.missing_type1 -= job.type == 1
            if not dependent.finished:
                self._advance(dependent)

    def fail(self, job: Job, error: BaseException) -> list[Job]:
        """`job` raised: it and all that depend on it fail, and release what they hold."""
        failed = []
        stack = [job]
        while stack:
            current = stack.pop()
            if current.finished:
                continue
            current.state, current.error = FAILED, error
            stack.extend(current.dependents)
            current.dependents, current.needs, current.run = [], (), None
            failed.append(current)
        return failed

    def _advance(self, job: Job) -> None:
        if job.missing == 0:
            self._queue(job)
        elif self.forces and job.missing_type1 == 0 and (job.type == 1 or job.forced):
            for need in job.needs:
                self._force(need, job.priority)

    def _queue(self, job: Job) -> None:
        job.state = READY
        heapq.heappush(self._ready, (self.key(job), next(self._counter), job))

    def _force(self, job: Job, priority: Priority) -> None:
        """Promote a type-2 job, and those it waits for, to the job that lacks only it."""
        stack = [job]
        while stack:
            current = stack.pop()
            if current.finished or current.state is RUNNING or current.type == 1:
                continue
            if current.forced and current.priority <= priority:
                continue
            current.forced, current.priority = True, priority
            if current.state is READY:
                self._queue(current)  # its old entry is skipped when it comes up
            elif current.missing_type1 == 0:
                stack.extend(current.needs)
