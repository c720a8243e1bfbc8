"""Predicted memory: it grows with what is computed, and shrinks with what is made again."""

from dataclasses import replace

import pytest
from planned_networks import NETWORKS

from znn_dask.cluster.room import fit_workers
from znn_dask.network import Network
from znn_dask.taskgraph.arithmetic import PlanError
from znn_dask.taskgraph.execution import Execution
from znn_dask.taskgraph.plan import Plan, plan

WIDE = (
    Network()
    .input()
    .conv("c1", 24, (5, 5, 5))
    .conv("c2", 24, (5, 5, 5))
    .conv("c3", 24, (5, 5, 5))
    .conv("c4", 2, (1, 1, 1), "linear", node="output")
)
SIZE = (20, 20, 20)


def planned(size=SIZE, **settings: object) -> Plan:
    return plan(WIDE, size, **{"slowness": 1.0, "algorithm": "tiled", **settings})  # type: ignore[arg-type]


def recomputing(made: Plan, *edges: str) -> Plan:
    return replace(made, execution=Execution(frozenset(edges), prompt=True))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("threads", [1, 2])
def test_larger_outputs_take_more(name: str, training: bool, threads: int):
    """Of one arithmetic, but for its cuts: direct convolution has no tiles that change with it."""
    network, size = NETWORKS[name]
    sizes = [tuple(n * k // 2 * 2 for n in size) for k in (1, 2, 3)]
    sizes = [tuple(max(n, 2) for n in s) for s in sizes]
    found = [
        plan(network, s, algorithm="direct", threads=threads, training=training, slowness=1.0).bytes
        for s in sizes
    ]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_each_spectrum_that_is_made_again_saves():
    made = planned()
    plans = [made, *(recomputing(made, *["c2", "c3", "c1"][:n]) for n in range(4))]
    found = [each.bytes for each in plans]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.8 * found[0]


def test_recomputing_costs_time_and_shows():
    made = planned()
    other = recomputing(made, "c2")
    assert other.schedule.work > made.schedule.work
    assert {row.layer: row.spectra for row in other.rows} == {
        "c1": "kept",
        "c2": "recomputed",
        "c3": "kept",
        "c4": "",
    }
    assert " MB again" in other.explain()
    assert "again" not in made.explain()
    assert other.to_dict()["layers"][1]["spectra"] == "recomputed"
    assert {row.spectra for row in planned(training=False).rows} == {""}


def test_a_limit_is_kept_with_as_little_recomputing_as_it_takes():
    made = planned()
    least = recomputing(made, "c1", "c2", "c3")
    assert planned(memory_limit=made.bytes).execution == made.execution
    limits = range(least.bytes, made.bytes, (made.bytes - least.bytes) // 6)
    counts = []
    for limit in limits:
        fitting = planned(memory_limit=limit)
        assert fitting.bytes <= limit
        assert fitting.arithmetic == made.arithmetic
        counts.append(len(fitting.execution.recomputed))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_a_limit_that_nothing_keeps_names_what_would_fit():
    made = planned()
    least = recomputing(made, "c1", "c2", "c3")
    limit = int(0.7 * least.bytes)
    with pytest.raises(PlanError) as refused:
        planned(memory_limit=limit)
    message = str(refused.value)
    assert "\n" not in message
    head, tail = message.split("; ")
    assert head.startswith(f"output size 20,20,20 needs {made.bytes / 1e6:.3g} MB, ")
    assert f" MB recomputing, the limit is {limit / 1e6:.3g} MB" in head
    assert tail.endswith(" would fit")
    size = tuple(map(int, tail.split(" ")[0].split(",")))
    assert planned(size, memory_limit=limit).bytes <= limit


class Scheduler:
    """A cluster as its scheduler describes it."""

    def __init__(self, *limits: int) -> None:
        self.workers = {f"tcp://{i}": {"memory_limit": n} for i, n in enumerate(limits)}


def test_the_smallest_worker_decides(monkeypatch):
    monkeypatch.setattr("znn_dask.cluster.room.present_workers", lambda client: client.workers)
    made = planned()
    assert fit_workers(made, Scheduler(0, 0)) is made
    assert fit_workers(made, Scheduler(0, 10**12)) is made
    squeezed = fit_workers(made, Scheduler(10**12, int(made.bytes / 0.8)))
    assert squeezed.execution.recomputed
    assert squeezed.bytes <= 0.7 / 0.8 * made.bytes
    assert squeezed.arithmetic == made.arithmetic
    with pytest.raises(PlanError, match=r"worker tcp://1 is too small: output size 20,20,20 needs"):
        fit_workers(made, Scheduler(10**12, 10**7))
