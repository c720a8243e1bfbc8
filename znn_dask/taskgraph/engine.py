"""The worker's engine: ZNN's task manager, one per process, with one queue for all passes.

The engine is the threads around `Rule`: they take jobs and run them. All granules of a worker
share it, so the type-2 jobs of one step fill the gaps of the next, whatever Dask task made them.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from znn_dask.kernels.denormals import flush_denormals
from znn_dask.taskgraph.census import ENGINES
from znn_dask.taskgraph.rule import Job, JobState, Rule
from znn_dask.taskgraph.timeline import Span, Tally, Totals


class TaskError(RuntimeError):
    """A typed task raised; the message names its kind and layer, `__cause__` is the error."""


class EngineClosedError(RuntimeError):
    """No thread is left to run what was submitted: the worker is closing."""


class _Waiter(Job):
    """A type-1 job that stands for a thread outside the engine, so that waiting forces."""

    __slots__ = ("arrived",)

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.arrived = threading.Event()
        super().__init__(("wait", "", 0), 1, (), jobs, self.arrived.set)


class _Clock(Totals):
    """What one thread has done, and since when it waits (0 when it does not)."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0.0


_numbers = itertools.count()


class Engine:
    """`threads` threads that run jobs by ZNN's rule.

    Parameters
    ----------
    threads
        How many jobs run at once.
    history
        How many of the last jobs `timeline` remembers, in seconds of `time.perf_counter`.
    rule
        Another policy than ZNN's, for comparison.
    tally
        Counts the jobs that have none of their own.
    """

    def __init__(
        self,
        threads: int,
        history: int = 4096,
        rule: Callable[[], Rule] = Rule,
        tally: Tally | None = None,
    ) -> None:
        self.number = next(_numbers)
        """Which of this process's engines it is, counted from 0."""
        self.timeline: deque[Span] = deque(maxlen=history)
        self._rule = rule()
        self._tally = tally
        self._clocks: dict[int, _Clock] = {}
        self._past = Totals()  # of threads that have left
        self._work = threading.Condition()
        self._idle = 0
        self._closed = False
        self._surplus = 0
        self._threads: dict[int, threading.Thread] = {}
        self.grow(threads)
        ENGINES.add(self)

    @property
    def threads(self) -> int:
        """How many jobs run at once."""
        return len(self._threads) - self._surplus

    def grow(self, threads: int) -> None:
        """Add threads, as when a second worker starts in this process."""
        with self._work:
            for _ in range(threads):
                i = next(i for i in itertools.count() if i not in self._threads)
                name = f"znn-engine-{i}"
                thread = threading.Thread(target=self._run, args=(i,), name=name, daemon=True)
                self._threads[i], self._clocks[i] = thread, _Clock()
                thread.start()

    def submit(self, jobs: Iterable[Job]) -> None:
        """Queue jobs; the needs of each stand before it or were submitted earlier.

        Raises
        ------
        EngineClosedError
            If there is no thread to run them.
        """
        with self._work:
            if self._closed or self.threads < 1:
                raise EngineClosedError("the engine is closed: it has no threads")
            for job in jobs:
                self._rule.add(job)
            self._wake(self._rule.ready)

    def wait(self, jobs: Iterable[Job]) -> None:
        """Return when all `jobs` are done, forcing those that only wait for a gap.

        Raises
        ------
        TaskError
            If one of them failed.
        EngineClosedError
            If there is no thread to run them.
        """
        pending = [job for job in jobs if job.state is not JobState.DONE]
        if not pending:
            return
        waiter = _Waiter(pending)
        self.submit([waiter])
        if waiter.state is JobState.FAILED:
            waiter.arrived.set()
        waiter.arrived.wait()
        if waiter.error is not None:
            raise waiter.error

    def shrink(self, threads: int) -> None:
        """Stop as many threads, once they find nothing to do."""
        with self._work:
            self._surplus += threads
            self._work.notify_all()

    def close(self) -> None:
        """Finish what was submitted, then stop all threads."""
        with self._work:
            threads = list(self._threads.values())
            self._closed = True
            self._work.notify_all()
        for thread in threads:
            thread.join()

    def _wake(self, ready: int) -> None:
        if self._idle and ready > 0:
            self._work.notify(min(ready, self._idle))

    def recent(self) -> list[Span]:
        """A copy of `timeline`, whatever the threads add meanwhile."""
        with self._work:
            return list(self.timeline)

    def totals(self) -> Totals:
        """Seconds of all threads together since the engine began, those that have left too."""
        with self._work:
            total = sum(self._clocks.values(), self._past)
            now = time.perf_counter()
            total.idle += sum(now - c.waiting for c in self._clocks.values() if c.waiting)
            return total

    def _run(self, thread: int) -> None:
        flush_denormals()
        # A training that diverges is reported once, with step and layer, by the tasks that look at
        # losses and gradients: numpy's warnings before that only add noise.
        with np.errstate(over="ignore", invalid="ignore"):
            clock = self._clocks[thread]
            done: tuple[Job, Span, BaseException | None] | None = None
            while True:
                with self._work:
                    if done is not None:
                        self._settle(*done, clock)
                        done = None  # an error's traceback holds what the job held
                    while (job := self._rule.take()) is None:
                        if self._closed or self._surplus:
                            self._leave(thread)
                            return
                        self._pause(clock)
                    self._wake(self._rule.ready)
                done = job, *_execute(job, thread)

    def _pause(self, clock: _Clock) -> None:
        self._idle += 1
        clock.waiting = time.perf_counter()
        self._work.wait()
        clock.idle += time.perf_counter() - clock.waiting
        clock.waiting = 0.0
        self._idle -= 1

    def _leave(self, thread: int) -> None:
        self._surplus -= not self._closed
        self._past += self._clocks.pop(thread)
        del self._threads[thread]

    def _settle(self, job: Job, span: Span, error: BaseException | None, clock: Totals) -> None:
        if error is None:
            if type(job) is not _Waiter:
                self.timeline.append(span)
                clock.count(span)
                if (tally := job.tally or self._tally) is not None:
                    tally.count(span)
            self._rule.finish(job)
            return
        for failed in self._rule.fail(job, error):
            if isinstance(failed, _Waiter):
                failed.arrived.set()


def _execute(job: Job, thread: int) -> tuple[Span, BaseException | None]:
    """Run a job; when it ran, and what went wrong."""
    error: BaseException | None = None
    start = time.perf_counter()
    try:
        if job.run is not None:
            job.run()
    except BaseException as cause:
        kind, layer, block = job.name
        error = TaskError(f"{kind} of {layer}, block {block}: {type(cause).__name__}: {cause}")
        error.__cause__ = cause
    end = time.perf_counter()
    step = job.priority[0] if job.priority else 0
    return Span(thread, start, end, job.name, job.type, job.forced, step), error


_engine: Engine | None = None
_engine_lock = threading.Lock()


def process_engine(threads: int = 0) -> Engine:
    """This process's engine, with `threads` threads more than it had.

    Workers that share a process share the engine, as they share its cores.
    """
    global _engine
    with _engine_lock:
        if _engine is None:
            _engine = Engine(threads)
        else:
            _engine.grow(threads)
        return _engine


def wait(jobs: Iterable[Job]) -> None:
    """`Engine.wait` on this process's engine, which is not touched when nothing is pending."""
    unfinished = [job for job in jobs if job.state is not JobState.DONE]
    if unfinished:
        process_engine().wait(unfinished)
