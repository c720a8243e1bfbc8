"""The simulated schedule: bounds, order, and ZNN's rule on graphs made by hand."""

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_networks import NETWORKS

from znn_dask.taskgraph.plan import plan
from znn_dask.taskgraph.schedule import Schedule, simulate
from znn_dask.taskgraph.steps import Step, remaining_paths
from znn_dask.taskgraph.tasks import TYPE, Task, TaskId

STEPS = 6


def task(kind: str, layer: str, seconds: float, *needs: Task, previous: Sequence[str] = ()) -> Task:
    """`previous`: "kind layer" of tasks of the step before."""
    before = tuple(TaskId(*name.split()) for name in previous)  # type: ignore[arg-type]
    identity = TaskId(kind, layer)  # type: ignore[arg-type]
    return Task(identity, tuple(need.id for need in needs), before, seconds)


def two_layers() -> tuple[Task, ...]:
    load = task("load", "patch", 1)
    f1 = task("forward", "n1", 4, load, previous=["update e1"])
    f2 = task("forward", "n2", 4, f1, previous=["update e2"])
    loss = task("loss", "patch", 1, f2)
    b2 = task("backward", "n2", 4, loss)
    b1 = task("backward", "n1", 4, b2)
    g2 = task("kernel_gradient", "e2", 6, b2)
    u2 = task("update", "e2", 1, g2)
    g1 = task("kernel_gradient", "e1", 6, b1)
    u1 = task("update", "e1", 1, g1)
    return load, f1, f2, loss, b2, b1, g2, u2, g1, u1


def starts(schedule: Schedule, step: int) -> dict[tuple[str, str], float]:
    """(kind, layer) -> when it began, in the given step."""
    seen: Counter[tuple[str, str]] = Counter()
    found = {}
    for span in schedule.spans:
        kind, layer, _ = span.name
        if seen[kind, layer] == step:
            found[kind, layer] = span.start
        seen[kind, layer] += 1
    return found


def check_bounds(tasks: Sequence[Task], schedule: Schedule, threads: int, steps: int) -> None:
    assert schedule.threads == threads
    slack = 1 + 1e-9
    assert schedule.makespan * slack >= steps * schedule.work / threads
    assert schedule.makespan * slack >= schedule.critical_path
    assert schedule.makespan * slack >= steps * schedule.bound
    assert schedule.makespan <= steps * schedule.work * slack
    assert len(schedule.spans) == steps * len(tasks)
    assert schedule.makespan == pytest.approx(max(span.end for span in schedule.spans))


def check_ranks(tasks: Sequence[Task], schedule: Schedule) -> None:
    assert sorted(schedule.ranks.values()) == list(range(len(tasks)))
    for each in tasks:
        for need in each.needs:
            assert schedule.ranks[need] < schedule.ranks[each.id]


def check_threads(schedule: Schedule) -> None:
    """A thread does one thing at a time."""
    for thread in range(schedule.threads):
        spans = sorted((s.start, s.end) for s in schedule.spans if s.thread == thread)
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert start >= end


def test_one_thread_does_everything_in_a_row():
    tasks = two_layers()
    schedule = simulate(tasks, 1)
    assert schedule.makespan == pytest.approx(STEPS * schedule.work)
    assert schedule.step_seconds == pytest.approx(schedule.work, rel=0.1)
    assert schedule.efficiency == pytest.approx(1.0, abs=0.1)


def test_type_2_is_done_in_gaps_only():
    """On one thread no update of a step comes before its backward pass is done."""
    schedule = simulate(two_layers(), 1)
    for step in range(STEPS):
        at = starts(schedule, step)
        assert at["kernel_gradient", "e2"] > at["backward", "n1"]
        assert at["kernel_gradient", "e1"] > at["backward", "n1"]


def test_the_next_step_forces_only_what_it_needs():
    """On one thread the first layer goes on before the second layer's kernel is renewed."""
    schedule = simulate(two_layers(), 1)
    before, now = starts(schedule, 0), starts(schedule, 1)
    assert before["update", "e1"] < now["forward", "n1"]
    assert now["forward", "n1"] < before["kernel_gradient", "e2"]
    assert before["update", "e2"] < now["forward", "n2"]
    forced = {span.name[:2] for span in schedule.spans if span.forced}
    assert ("update", "e1") in forced
    assert ("kernel_gradient", "e1") in forced


def test_two_threads_overlap_updates_with_the_next_forward_pass():
    one, two = simulate(two_layers(), 1), simulate(two_layers(), 2)
    before, now = starts(two, 0), starts(two, 1)
    assert before["kernel_gradient", "e2"] < now["forward", "n1"]
    assert two.step_seconds < one.step_seconds
    gradient = {s.name[:2]: s for s in two.spans[: len(two_layers())]}["kernel_gradient", "e2"]
    backward = {s.name[:2]: s for s in two.spans[: len(two_layers())]}["backward", "n1"]
    assert gradient.start < backward.end  # the second thread has nothing better to do


def test_the_critical_path_is_the_longest_chain():
    tasks = two_layers()
    loop = 4 + 4 + 1 + 4 + 4 + 6 + 1  # all but the load, which can be done ahead
    assert simulate(tasks, 2).critical_path == pytest.approx(loop, abs=1e-3)
    alone = tasks[:3]  # a forward pass, which the next one need not wait for
    assert simulate(alone, 2).critical_path == pytest.approx(1 + 4 + 4, abs=1e-3)
    assert simulate(alone, 2).bound == pytest.approx((1 + 4 + 4) / 2, abs=1e-3)
    wide = [task("forward", f"n{i}", 1.0) for i in range(8)]
    assert simulate(wide, 8, steps=1).makespan == pytest.approx(1.0, abs=1e-3)
    assert simulate(wide, 4, steps=1).makespan == pytest.approx(2.0, abs=1e-3)
    assert simulate(wide, 3, steps=1).makespan == pytest.approx(3.0, abs=1e-3)


def test_kernels_of_the_first_layers_are_more_urgent():
    step = Step(two_layers(), 1, 0.0)
    paths = dict(zip((task.id for task in step.tasks), remaining_paths(step), strict=True))
    assert paths[TaskId("update", "e1")] > paths[TaskId("update", "e2")]
    assert paths[TaskId("load", "patch")] == max(paths.values())


def test_nothing_to_do():
    schedule = simulate((), 2)
    assert schedule.makespan == schedule.work == schedule.critical_path == 0
    assert schedule.efficiency == 1.0


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("name", NETWORKS)
def test_bounds_and_ranks_of_networks(name: str, threads: int):
    network, size = NETWORKS[name]
    made = plan(network, size, threads=threads, slowness=1.0)
    schedule = made.schedule
    check_bounds(made.tasks, schedule, threads, STEPS)
    check_ranks(made.tasks, schedule)
    check_threads(schedule)
    load = made.cost.load / (threads * schedule.step_seconds)  # patches are loaded far ahead
    assert 0 < schedule.efficiency <= 1 + load + 1e-9
    if threads == 1:
        assert schedule.efficiency > 0.9


def test_more_threads_are_not_slower():
    network, size = NETWORKS["branched"]
    seconds = [plan(network, size, threads=t, slowness=1.0).update_seconds for t in (1, 2, 4)]
    assert seconds[1] < 0.7 * seconds[0]
    assert seconds[2] <= seconds[1] * 1.02


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Task, ...]:
    count = draw(st.integers(1, 20))
    ids = [TaskId(draw(st.sampled_from(sorted(TYPE))), str(i)) for i in range(count)]  # type: ignore[arg-type]
    tasks = []
    for i in range(count):
        needs = draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else []
        previous = draw(st.lists(st.integers(0, count - 1), max_size=2, unique=True))
        seconds = draw(st.sampled_from([0.0, 0.1, 1.0, 3.0]))
        tasks.append(
            Task(ids[i], tuple(ids[n] for n in needs), tuple(ids[n] for n in previous), seconds)
        )
    return tuple(tasks)


@settings(max_examples=100, deadline=None)
@given(graphs(), st.integers(1, 8), st.integers(1, 4))
def test_bounds_and_ranks_of_any_graph(tasks: tuple[Task, ...], threads: int, steps: int):
    schedule = simulate(tasks, threads, steps=steps)
    check_bounds(tasks, schedule, threads, steps)
    check_ranks(tasks, schedule)
    check_threads(schedule)
    again = simulate(tasks, threads, steps=steps)
    assert again == schedule  # a function of its arguments
