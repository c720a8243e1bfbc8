"""The timeline of a cluster: the passes inside granules, from the engines of real workers."""

import time

import pytest
from distributed import Client
from random_patches import RandomPatches, random_parameters

import znn_dask
from znn_dask.cluster.checks import present_workers
from znn_dask.cluster.local import local_cluster
from znn_dask.cluster.session import Session, losses
from znn_dask.cluster.timeline import WorkerSpan, drawable
from znn_dask.cluster.work import TrainingSpec
from znn_dask.network import Network
from znn_dask.report.schedule import middle, span_gantt
from znn_dask.taskgraph import choose_arithmetic
from znn_dask.taskgraph.engine import process_engine
from znn_dask.taskgraph.state import UpdateRule

NETWORK = (
    Network().input().conv("c1", 4, (1, 5, 5)).conv("c2", 2, (1, 3, 3), "linear", node="output")
)
SIZE = (1, 40, 40)
STEPS = 7


def trained(client: Client) -> list[WorkerSpan]:
    """What a cluster did for some updates in one granule."""
    arithmetic = choose_arithmetic(NETWORK, SIZE)
    session = Session(
        client,
        TrainingSpec(NETWORK, arithmetic, "given", RandomPatches(NETWORK, SIZE)),
        whole_steps=True,
    )
    session.start(random_parameters(NETWORK), None, 0)
    reports = session.train(0, [UpdateRule(1e-3, 0.9, 0.0, 1e-3)] * STEPS)
    session.result(session.snapshot(STEPS))
    assert len(losses(session.result(report) for report in reports)) == STEPS
    session.close()
    return znn_dask.timeline(client)


def check(spans: list[WorkerSpan], began: float) -> None:
    for span in spans:
        assert began - 1 < span.start <= span.end < time.time() + 1  # wall clock
    counts = {
        key: sum((span.kind, span.layer, span.block) == key for span in spans)
        for key in (("forward", "output", 0), ("loss", "patch", 0), ("update", "c1", 0))
    }
    assert set(counts.values()) == {STEPS}, "every pass inside the granule is there"
    assert {span.type for span in spans if span.kind in ("forward", "backward")} == {1}
    assert {span.type for span in spans if span.kind in ("update", "load")} == {2}
    assert any(span.forced for span in spans if span.kind == "load")
    assert [span.start for span in spans] == sorted(span.start for span in spans)


@pytest.mark.cluster
def test_workers_in_processes_of_their_own():
    began = time.time()
    with local_cluster(2, processes=True, dashboard=False) as client:
        spans = trained(client)
        check(spans, began)
        assert {span.worker for span in spans} == set(present_workers(client))
    drawn = drawable(spans)
    assert {span.thread for span in drawn} <= {0, 1}
    assert len(middle(drawn, 1e9)) <= len(drawn)
    chart = span_gantt(drawn, title="What the worker did")
    assert sum(bar.tasks for bar in chart.bars) == len(drawn)
    assert len(chart.busy) == len({span.thread for span in drawn})


def test_workers_of_one_process_share_a_timeline_and_totals():
    process_engine().timeline.clear()
    before, began = process_engine().totals(), time.time()
    with local_cluster(1, workers=2, dashboard=False) as client:
        spans = trained(client)
        check(spans, began)
        assert len({span.worker for span in spans}) == 1
    spent = process_engine().totals() - before
    assert spent.jobs == len(spans)
    assert spent.busy == pytest.approx(sum(span.end - span.start for span in spans), rel=0.01)
    forced = sum(span.end - span.start for span in spans if span.forced)
    assert spent.forced == pytest.approx(forced, rel=0.01)
    assert spent.idle > 0
