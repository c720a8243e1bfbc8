"""ZNN's rule beside other policies, and its distance from the lower bound; all by counted costs."""

import functools
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from networks import PATCHES, scalability
from policies import Barriers, dask_ranks, layer_phases, policies

from znn_dask.network import Network, read_znn, zoo
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.plan import plan
from znn_dask.taskgraph.rule import Job
from znn_dask.taskgraph.schedule import simulate
from znn_dask.taskgraph.tasks import Task

PATH = 4.0  # critical paths that work / threads must be for the bound to be within reach
REACH = 0.05
WIDTHS = (5, 16, 40, 60)
NAMES = (*PATCHES, "em3d", *(f"scalability_{width}" for width in WIDTHS))


@cache
def tasks_of(name: str, folder: Path) -> tuple[Task, ...]:
    network: Network
    if name == "em3d":
        network, size = zoo.em3d(), (48, 48, 48)
    elif name.startswith("scalability"):
        network, size = scalability(int(name.split("_")[1])), (32, 32, 32)
    else:
        path = folder / "znn/networks" / f"{name}.znn"
        if not path.exists():
            pytest.skip(f"{path} is not there")
        network, size = read_znn(path), PATCHES[name]
    return plan(network, size, slowness=1.0).tasks


@pytest.mark.parametrize("threads", [2, 8])
@pytest.mark.parametrize("name", NAMES)
def test_the_rule_comes_near_the_bound(name: str, threads: int, shared: Path):
    """Where work / threads is four critical paths: with as many patches as that takes."""
    tasks = tasks_of(name, shared)
    patches, alone = 1, simulate(tasks, threads, steps=1)
    while patches * alone.work / threads < 1.1 * PATH * alone.critical_path:
        patches *= 2
    schedule = simulate(tasks, threads, patches=patches)
    assert schedule.work / threads >= PATH * schedule.critical_path
    assert schedule.over_bound <= REACH
    assert schedule.makespan >= 6 * schedule.bound * (1 - 1e-9)


@pytest.mark.parametrize("name", ["slide_4L_w16_k5", "bench_3d_3", "N4_relu", "scalability_40"])
@pytest.mark.parametrize(("threads", "patches"), [(2, 1), (8, 4), (32, 8)])
def test_barriers_are_no_better(name: str, threads: int, patches: int, shared: Path):
    tasks = tasks_of(name, shared)
    rules = policies(tasks)
    barriers = simulate(tasks, threads, patches=patches, rule=rules["barriers"])
    assert simulate(tasks, threads, patches=patches).step_seconds <= 1.02 * barriers.step_seconds


def test_one_thread_is_as_fast_by_any_policy(shared: Path):
    tasks = tasks_of("slide_4L_w16_k5", shared)
    for rule in policies(tasks).values():
        long = simulate(tasks, 1, rule=rule, steps=20)  # the ends of a short run weigh a percent
        assert long.over_bound == pytest.approx(0, abs=0.01)


def test_barriers_part_the_layers(shared: Path):
    tasks = tasks_of("em3d", shared)
    phases = layer_phases(tasks)
    schedule = simulate(tasks, 4, rule=lambda: Barriers(phases))
    spans = [(phases.get(span.name[:2], -1), span) for span in schedule.spans if span.step == 1]
    for phase in set(phases.values()):
        ends = [span.end for p, span in spans if 0 <= p < phase]
        starts = [span.start for p, span in spans if p == phase]
        assert max(ends, default=0.0) <= min(starts) + 1e-12


def test_dasks_order_is_one_of_the_graphs(shared: Path):
    tasks = tasks_of("bench_3d_3", shared)
    ranks = dask_ranks(tasks)
    assert sorted(ranks.values()) == list(range(len(tasks)))
    for task in tasks:
        assert all(ranks[tuple(need)] < ranks[tuple(task.id)] for need in task.needs)


def test_the_engine_runs_by_any_policy(shared: Path):
    tasks = tasks_of("bench_3d_3", shared)
    for rule in policies(tasks).values():
        engine, done = Engine(2, rule=rule), Counter[tuple[str, str, int]]()
        jobs: dict[tuple[str, str, int], Job] = {}
        for rank, task in enumerate(tasks):
            needs = [jobs[need] for need in task.needs]
            run = functools.partial(done.update, [task.id])
            jobs[task.id] = Job(task.id, task.type, (0, 0, rank), needs, run)
        engine.submit(jobs.values())
        engine.wait(jobs.values())
        engine.close()
        assert done == Counter(task.id for task in tasks)
