"""ZNN's rule as a state machine: gaps, forcing, failures; any graph on any number of threads."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_checks import assert_forced, assert_released, check_start

from znn_dask.taskgraph.rule import Job, JobState, Rule


def job(name: str, type: int, priority: int, *needs: Job) -> Job:
    return Job(("kind", name, 0), type, (priority,), needs, run=lambda: None)


def added(*jobs: Job) -> Rule:
    rule = Rule()
    for each in jobs:
        rule.add(each)
    return rule


def run_in_order(rule: Rule) -> list[str]:
    """Layers in the order in which one thread runs them."""
    order = []
    while (taken := rule.take()) is not None:
        assert taken.state is JobState.RUNNING
        order.append(taken.name[1])
        rule.finish(taken)
    return order


def test_type_1_runs_by_priority_and_type_2_in_the_gap():
    update, late, early = job("update", 2, 0), job("late", 1, 9), job("early", 1, 1)
    assert run_in_order(added(update, late, early)) == ["early", "late", "update"]


def test_equal_priorities_run_in_the_order_in_which_they_came():
    assert run_in_order(added(*(job(name, 1, 3) for name in "dbac"))) == list("dbac")


def test_nothing_is_ready_while_needs_run():
    first = job("first", 1, 0)
    second = job("second", 1, 1, first)
    rule = added(first, second)
    assert rule.take() is first
    assert rule.take() is None
    assert second.state is JobState.WAITING
    rule.finish(first)
    assert rule.take() is second


def test_a_needed_type_2_is_forced_before_less_urgent_type_1():
    update, other = job("update", 2, 50), job("other", 1, 5)
    needs_it = job("forward", 1, 1, update)
    rule = added(update, needs_it, other)
    assert update.forced
    assert run_in_order(rule) == ["update", "forward", "other"]


def test_a_forced_type_2_waits_for_more_urgent_type_1():
    update, other = job("update", 2, 0), job("other", 1, 1)
    forward = job("forward", 1, 5, update)
    assert run_in_order(added(update, other, forward)) == ["other", "update", "forward"]


def test_forcing_goes_through_chains_of_type_2():
    gradient = job("gradient", 2, 90)
    update = job("update", 2, 91, gradient)
    spectrum = job("spectrum", 2, 92, update)
    unneeded = job("unneeded", 2, 0)
    other = job("other", 1, 5)
    forward = job("forward", 1, 1, spectrum)
    rule = added(gradient, update, spectrum, unneeded, other, forward)
    assert gradient.forced
    assert update.forced
    assert spectrum.forced
    assert not unneeded.forced
    expected = ["gradient", "update", "spectrum", "forward", "other", "unneeded"]
    assert run_in_order(rule) == expected


def test_nothing_is_forced_while_a_type_1_is_missing_too():
    """Forcing earlier would delay type-1 work and win nothing."""
    update, before, other = job("update", 2, 0), job("before", 1, 3), job("other", 1, 4)
    forward = job("forward", 1, 1, update, before)
    rule = added(update, before, other, forward)
    assert not update.forced
    assert rule.take() is before
    rule.finish(before)
    assert update.forced
    assert run_in_order(rule) == ["update", "forward", "other"]


def test_a_chain_is_forced_when_its_own_type_1_is_done():
    """The update of a step waits for its backward pass; the next forward pass waits for both."""
    backward = job("backward", 1, 8)
    gradient = job("gradient", 2, 90, backward)
    update = job("update", 2, 91, gradient)
    other = job("other", 1, 9)
    forward = job("forward", 1, 1, update)
    rule = added(backward, gradient, update, other, forward)
    assert run_in_order(rule) == ["backward", "gradient", "update", "forward", "other"]


def test_a_more_urgent_job_promotes_again():
    update = job("update", 2, 50)
    slow = job("slow", 1, 7, update)
    between = job("between", 1, 4)
    rule = added(update, slow, between)
    assert update.priority == (7,)
    urgent = job("urgent", 1, 2, update)
    rule.add(urgent)
    assert update.priority == (2,)
    assert run_in_order(rule) == ["update", "urgent", "between", "slow"]


def test_a_less_urgent_job_does_not_demote():
    update = job("update", 2, 50)
    urgent, slow = job("urgent", 1, 2, update), job("slow", 1, 7, update)
    added(update, urgent, slow)
    assert update.priority == (2,)


def test_running_type_2_is_waited_for():
    update = job("update", 2, 0)
    rule = added(update)
    assert rule.take() is update
    forward = job("forward", 1, 0, update)
    rule.add(forward)
    assert rule.take() is None
    rule.finish(update)
    assert rule.take() is forward


def test_done_needs_are_no_needs():
    first = job("first", 1, 0)
    rule = added(first)
    rule.finish(rule.take())
    second = job("second", 1, 0, first, first)
    rule.add(second)
    assert run_in_order(rule) == ["second"]


def test_updates_of_a_step_overlap_the_next_forward_pass():
    """Two steps of two layers: only what the next forward needs is pulled out of the gaps."""
    step = [dict[str, Job](), dict[str, Job]()]
    rule = Rule()
    for s, (jobs, previous) in enumerate(zip(step, [{}, step[0]], strict=True)):

        def add(name: str, type: int, rank: int, *needs: Job, s=s, jobs=jobs) -> None:
            jobs[name] = job(f"{name}{s}", type, 10 * s + rank, *needs)
            rule.add(jobs[name])

        add("f1", 1, 0, *([previous["u1"]] if previous else []))
        add("f2", 1, 1, jobs["f1"], *([previous["u2"]] if previous else []))
        add("b2", 1, 2, jobs["f2"])
        add("b1", 1, 3, jobs["b2"])
        add("u2", 2, 5, jobs["b2"])
        add("u1", 2, 4, jobs["b1"])
    order = run_in_order(rule)
    assert order == ["f10", "f20", "b20", "b10", "u10", "f11", "u20", "f21", "b21", "b11", "u11",
                     "u21"]  # fmt: skip


def test_updates_fill_the_second_thread_while_the_next_step_runs():
    backward = job("backward", 1, 0)
    updates = [job(f"u{i}", 2, 1 + i, backward) for i in range(2)]
    forward = job("forward", 1, 10, updates[0])
    deeper = job("deeper", 1, 11, forward, updates[1])
    rule = added(backward, *updates, forward, deeper)
    rule.finish(rule.take())
    assert [rule.take(), rule.take()] == updates  # the needed one is forced, the other in the gap
    assert updates[0].forced
    assert not updates[1].forced
    rule.finish(updates[0])
    assert rule.take() is forward  # overlaps the update that is still running
    rule.finish(forward)
    assert rule.take() is None
    rule.finish(updates[1])
    assert rule.take() is deeper


def test_a_failure_fails_all_that_depends_on_it_and_releases_what_they_hold():
    first = job("first", 1, 0)
    second = job("second", 2, 1, first)
    third = job("third", 1, 2, second)
    other = job("other", 1, 3)
    rule = added(first, second, third, other)
    error = ArithmeticError("first is not finite")
    failed = rule.fail(rule.take(), error)
    assert {f.name[1] for f in failed} == {"first", "second", "third"}
    for each in (first, second, third):
        assert each.state is JobState.FAILED
        assert each.error is error
        assert_released(each)
    assert run_in_order(rule) == ["other"]


def test_a_job_added_after_its_need_failed_fails_at_once():
    first = job("first", 1, 0)
    rule = added(first)
    error = ArithmeticError("no")
    rule.fail(rule.take(), error)
    pending = job("pending", 1, 0)
    late = job("late", 1, 0, pending, first)
    rule.add(pending)
    rule.add(late)
    assert late.state is JobState.FAILED
    assert late.error is error
    assert_released(late)
    assert run_in_order(rule) == ["pending"]


def test_a_ready_job_may_fail_and_is_not_taken():
    """A failure can only come from running, but `fail` holds for any state."""
    ready = job("ready", 1, 0)
    rule = added(ready)
    rule.fail(ready, ValueError("no"))
    assert rule.take() is None
    assert rule.fail(ready, ValueError("again")) == []


@dataclass(frozen=True)
class Given:
    """A job of a random graph."""

    type: int
    priority: int
    needs: tuple[int, ...]
    seconds: int
    fails: bool
    arrives: int


@st.composite
def graphs(draw: st.DrawFn) -> list[Given]:
    count = draw(st.integers(1, 16))
    arrives = 0
    graph = []
    for i in range(count):
        arrives += draw(st.sampled_from([0, 0, 0, 2]))
        needs = draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else []
        graph.append(
            Given(
                draw(st.sampled_from([1, 2])),
                draw(st.integers(0, 6)),
                tuple(needs),
                draw(st.integers(0, 4)),
                draw(st.integers(0, 19)) == 0,
                arrives,
            )
        )
    return graph


@dataclass
class Simulation:
    """Runs a graph on simulated threads, and looks at the rule at every event."""

    graph: Sequence[Given]
    threads: int
    check: Callable[[list[Job], Job], None]
    jobs: list[Job] = field(default_factory=list)
    starts: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)

    def run(self) -> None:
        rule, clock, added = Rule(), 0, 0
        running: list[tuple[int, int]] = []
        number: dict[Job, int] = {}
        while True:
            while added < len(self.graph) and self.graph[added].arrives <= clock:
                spec = self.graph[added]
                new = job(str(added), spec.type, spec.priority, *(self.jobs[n] for n in spec.needs))
                number[new] = added
                self.jobs.append(new)
                rule.add(new)
                added += 1
            while len(running) < self.threads:
                ready = [j for j in self.jobs if j.state is JobState.READY]
                taken = rule.take()
                if taken is None:
                    assert not ready, "a thread is idle while a job is ready"
                    break
                assert number[taken] not in self.starts, "a job runs twice"
                self.starts[number[taken]] = clock
                self.check(ready, taken)
                heapq.heappush(running, (clock + self.graph[number[taken]].seconds, number[taken]))
            if running:
                clock, done = heapq.heappop(running)
                self.ends[done] = clock
                if self.graph[done].fails:
                    rule.fail(self.jobs[done], ArithmeticError(str(done)))
                else:
                    rule.finish(self.jobs[done])
            elif added < len(self.graph):
                clock = max(clock, self.graph[added].arrives)
            else:
                break
            assert_forced(self.jobs)


@settings(max_examples=300, deadline=None)
@given(graphs(), st.integers(1, 8))
def test_any_graph_on_any_number_of_threads(graph: list[Given], threads: int):
    simulation = Simulation(graph, threads, check_start)
    simulation.run()
    doomed: set[int] = set()
    for i, spec in enumerate(graph):
        end = simulation.jobs[i]
        assert end.finished, "a job never ran"
        assert_released(end)
        if doomed.intersection(spec.needs):
            doomed.add(i)
            assert i not in simulation.starts
        else:
            starts = [simulation.ends[need] for need in spec.needs]
            assert simulation.starts[i] >= max(starts, default=0)
            if spec.fails:
                doomed.add(i)
        assert (end.state is JobState.FAILED) == (i in doomed)
        if i in doomed:
            failed = int(str(end.error))
            assert graph[failed].fails
            assert failed == i or failed in doomed


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_one_thread_is_busy_until_all_is_done(graph: list[Given]):
    """No gap without need: with everything there from the start, one thread never pauses."""
    together = [Given(g.type, g.priority, g.needs, g.seconds, False, 0) for g in graph]
    simulation = Simulation(together, 1, check_start)
    simulation.run()
    assert max(simulation.ends.values()) == pytest.approx(sum(g.seconds for g in together))


@st.composite
def training_steps(draw: st.DrawFn) -> list[Given]:
    """Several steps of a network: each layer's update is needed by the next step's forward pass."""
    layers, count = draw(st.integers(1, 4)), draw(st.integers(2, 4))
    graph: list[Given] = []
    updates: list[list[int]] = [[] for _ in range(layers)]
    arrives = 0

    def add(type: int, rank: int, *needs: int) -> int:
        seconds, fails = draw(st.integers(0, 5)), draw(st.integers(0, 59)) == 0
        graph.append(Given(type, first + rank, tuple(needs), seconds, fails, arrives))
        return len(graph) - 1

    for first in range(0, 100 * count, 100):  # noqa: B007
        arrives += draw(st.integers(0, 12))
        before = add(2, 99)  # the patch
        for layer in range(layers):
            before = add(1, layer, before, *updates[layer])
        updates = [[] for _ in range(layers)]
        for layer in reversed(range(layers)):
            before = add(1, 2 * layers - layer, before)
            for block in range(draw(st.integers(1, 2))):
                gradient = add(2, 50 + block, before)
                updates[layer].append(add(2, draw(st.integers(10, 60)), gradient))
    return graph


@settings(max_examples=150, deadline=None)
@given(training_steps(), st.integers(1, 6))
def test_training_steps_on_any_number_of_threads(graph: list[Given], threads: int):
    """What is added while others run, with needs in the step before, and what fails there."""
    simulation = Simulation(graph, threads, check_start)
    simulation.run()
    for i, spec in enumerate(graph):
        doomed = spec.fails or any(
            simulation.jobs[need].state is JobState.FAILED for need in spec.needs
        )
        assert simulation.jobs[i].state is (JobState.FAILED if doomed else JobState.DONE)
        assert (i in simulation.starts) == (not doomed or (spec.fails and i in simulation.ends))
        if doomed:
            assert graph[int(str(simulation.jobs[i].error))].fails
