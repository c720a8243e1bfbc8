"""Measured seconds in plans: rehearsed once, shared by networks, estimated where unknown."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
from planned_networks import NETWORKS

from znn_dask.network import Network
from znn_dask.taskgraph.machine import cores
from znn_dask.taskgraph.plan import plan
from znn_dask.taskgraph.pricing import price
from znn_dask.taskgraph.signature import signature
from znn_dask.taskgraph.timings import Timing, Timings, stored

SIZE = (2, 8, 8)
PLANS = importlib.import_module("znn_dask.taskgraph.plan")  # its function has the same name


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known at first, and rehearsals are short."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("znn_dask.taskgraph.rehearsal._ENOUGH_SECONDS", 0.05)


def network(width: int = 6) -> Network:
    return (
        Network()
        .input()
        .conv("a", 4, (1, 3, 3))
        .max_filter("m", (1, 2, 2), (1, 2, 2))
        .conv("b", width, (1, 3, 3), "linear", node="output")
    )


def test_a_rehearsal_knows_every_task():
    made = plan(network(), SIZE, threads=2, measure=True)
    assert made.measured == 1
    assert made.basis == "measured on this machine"
    assert made.basis in made.explain()
    assert made.to_dict()["basis"] == made.basis
    assert all(task.seconds > 0 for task in made.tasks)
    assert made.machine.job_seconds == stored().constants["job_seconds"] > 0


def test_what_is_known_is_not_rehearsed_again(monkeypatch: pytest.MonkeyPatch):
    first = plan(network(), SIZE, measure=True)
    monkeypatch.setattr(PLANS, "rehearse", None)
    again = plan(network(), SIZE, measure=True)
    assert again.tasks == first.tasks
    assert plan(network(), SIZE).tasks == first.tasks
    assert plan(network(), SIZE).measured == 1


def test_networks_share_layers():
    plan(network(), SIZE, measure=True)
    other = plan(network(width=7), SIZE)
    assert 0 < other.measured < 1
    assert other.basis.startswith("estimated, ")
    first = {task.id: task.seconds for task in plan(network(), SIZE).tasks}
    for task in other.tasks:
        if task.id.kind == "forward" and task.id.layer != "output":
            assert task.seconds == first[task.id]


def test_a_refresh_measures_all_again():
    first = plan(network(), SIZE, measure=True)
    again = plan(network(), SIZE, refresh=True)
    assert again.measured == 1
    assert [t.seconds for t in again.tasks] != [t.seconds for t in first.tasks]
    assert stored() == again.timings


def test_threads_are_measured_apart_but_no_more_than_there_are_cores():
    many = plan(network(), SIZE, threads=cores() + 7, measure=True)
    assert set(many.timings.tasks) == {cores()}
    assert plan(network(), SIZE, threads=cores()).measured == 1
    assert plan(network(), SIZE, threads=1).measured == (cores() == 1)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_networks_of_every_kind_are_rehearsed(name: str, training: bool):
    made = plan(*NETWORKS[name], threads=2, training=training, measure=True)
    assert made.measured == 1


def test_nothing_is_measured_unless_asked_for():
    made = plan(network(), SIZE)
    assert made.measured == 0
    assert made.basis == "estimated"
    assert not stored()
    assert made.slowness > 0


def test_a_step_that_takes_too_long_is_estimated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(PLANS, "_LONGEST_STEP", 0.0)
    assert plan(network(), SIZE, measure=True).measured == 0


def test_an_estimate_follows_what_is_known_of_its_kind():
    """Twice the counted seconds for one kind, thrice for another: so are those of other layers."""
    known = plan(network(), SIZE, slowness=1.0)
    factors = {"forward": 2.0, "backward": 3.0}
    tasks = {
        signature(known.layers, task.id): Timing(factors[task.id.kind] * task.seconds, task.seconds)
        for task in known.tasks
        if task.id.kind in factors
    }
    other = plan(network(width=9), (2, 12, 12), slowness=1.0)
    priced, measured = price(other.counted, other.layers, Timings({1: tasks}), 1, training=True)
    assert measured == 0
    counted = {task.id: task.seconds for task in other.counted}
    for task in priced:
        if task.id.kind in factors:
            assert task.seconds == pytest.approx(factors[task.id.kind] * counted[task.id])
        else:
            assert 2 * counted[task.id] <= task.seconds <= 3 * counted[task.id]


def test_the_arithmetic_does_not_follow_the_clock():
    before = plan(network(), SIZE).arithmetic
    assert plan(network(), SIZE, measure=True).arithmetic == before
    assert plan(network(), SIZE, refresh=True).arithmetic.digest == before.digest


def test_long_steps_wait_for_dask_once_and_workers_for_each_other():
    machine = {"hop_seconds": 0.5, "bytes_per_second": 1e6}
    made = plan(network(), SIZE, slowness=1e5)
    assert made.steps_per_granule == 0
    slow = replace(made, timings=Timings(constants=machine))
    assert slow.update_seconds == pytest.approx(slow.schedule.step_seconds + 0.5)
    two = replace(slow, workers=2)
    assert two.update_seconds > slow.update_seconds
    assert two.schedule.step_seconds == slow.schedule.step_seconds
    short = replace(slow, slowness=1.0)
    assert short.update_seconds == short.schedule.step_seconds
    forward = replace(slow, training=False, workers=2)
    assert forward.update_seconds == forward.schedule.step_seconds
