"""The rule under any sequence of events: hypothesis adds, takes, finishes and fails as it likes."""

import gc
import weakref

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from rule_checks import assert_forced, assert_released, check_start

from znn_dask.taskgraph.rule import Job, JobState, Rule


class Watched(Job):
    """A job of which one can tell whether anything still refers to it."""

    __slots__ = ("__weakref__",)


class RuleMachine(RuleBasedStateMachine):
    """Threads are only a bound on how many jobs run: what is running ends in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.rule = Rule()
        self.jobs: list[Watched] = []
        self.running: list[Watched] = []
        self.ran: list[Watched] = []
        self.cause: dict[Watched, str] = {}

    @rule(
        type=st.sampled_from([1, 2]),
        priority=st.integers(0, 9),
        needs=st.sets(st.integers(0, 200), max_size=3),
    )
    def add(self, type: int, priority: int, needs: set[int]) -> None:
        """Needs may be waiting, ready, running, done or failed."""
        before = [self.jobs[n % len(self.jobs)] for n in sorted(needs)] if self.jobs else []
        job = Watched(("kind", str(len(self.jobs)), 0), type, (priority,), before, lambda: None)
        self.jobs.append(job)
        self.rule.add(job)
        if any(need in self.cause for need in before):
            assert job.state is JobState.FAILED
            self.cause[job] = str(job.error)
            assert self.cause[job] in {self.cause.get(need) for need in before}

    @rule()
    def take(self) -> None:
        ready = [job for job in self.jobs if job.state is JobState.READY]
        taken = self.rule.take()
        if taken is None:
            assert not ready, "a thread is idle while a job is ready"
            return
        check_start(ready, taken)
        assert taken not in self.ran, "a job runs twice"
        self.running.append(taken)
        self.ran.append(taken)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 50))
    def finish(self, which: int) -> None:
        done = self.running.pop(which % len(self.running))
        self.rule.finish(done)
        assert done.state is JobState.DONE
        assert_released(done)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 50))
    def fail(self, which: int) -> None:
        bad = self.running.pop(which % len(self.running))
        error = ArithmeticError(bad.name[1])
        doomed = self.rule.fail(bad, error)
        assert doomed[0] is bad
        for job in doomed:
            assert job.error is error
            assert job is bad or job not in self.ran
            self.cause[job] = bad.name[1]
            assert_released(job)

    @invariant()
    def forced_at_once(self) -> None:
        assert_forced(self.jobs)

    @invariant()
    def nothing_waits_for_what_is_finished(self) -> None:
        for job in self.jobs:
            if job.state is JobState.WAITING:
                assert any(not need.finished for need in job.needs)
            assert (job.state is JobState.FAILED) == (job in self.cause)

    def teardown(self) -> None:
        """From wherever it stands, all can be run to its end, and then nothing is held."""
        while self.running or any(job.state is JobState.READY for job in self.jobs):
            self.take()
            if self.running:
                self.finish(0)
        assert all(job.finished for job in self.jobs), "a job can never run"
        assert self.rule.take() is None
        watched = [weakref.ref(job) for job in self.jobs]
        for held in (self.jobs, self.ran, self.cause):
            held.clear()
        gc.collect()
        assert not any(watch() for watch in watched), "the rule holds what is finished"


TestRuleMachine = RuleMachine.TestCase
TestRuleMachine.settings = settings(max_examples=80, stateful_step_count=60, deadline=None)
