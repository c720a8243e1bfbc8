"""What drivers and workers tell: the last word counts, sums are right, and nobody waits."""

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest
from distributed import Client

from znn_dask.cluster.figures import process_figures
from znn_dask.cluster.local import local_cluster
from znn_dask.dashboard.channel import Channel
from znn_dask.dashboard.link import page_link
from znn_dask.dashboard.plugin import NAME
from znn_dask.inference.blocks import BlockPlan
from znn_dask.inference.publishing import Publisher
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.rule import Job
from znn_dask.taskgraph.timeline import Tally
from znn_dask.training.curve import Series
from znn_dask.training.publishing import _Follower

PLAN = BlockPlan(
    (8, 8, 8), {"input": (1, 1, 1)}, "valid", (0, 0, 0), (8, 8, 8), (2, 4, 8), (2, 4, 8)
)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(1) as client:
        yield client


def shown(client: Client, kind: str) -> list[dict]:
    with urllib.request.urlopen(f"{page_link(client)}.json", timeout=20) as answer:
        return list(json.load(answer)[kind])


def test_jobs_are_counted_by_kind_and_layer() -> None:
    own, engines = Tally("own"), Tally("engine's")
    engine = Engine(1, tally=engines)
    jobs = [
        Job(("forward", "c1", block), 1, (block,), (), lambda: time.sleep(0.01), own)
        for block in range(3)
    ]
    jobs.append(Job(("loss", "", 0), 1, (9,)))
    engine.submit(jobs)
    engine.wait(jobs)
    found = process_figures()
    engine.close()
    ((kind, layer, seconds),) = found["seconds"]["own"]
    assert (kind, layer) == ("forward", "c1")
    assert 0.03 <= seconds < 3
    assert [row[:2] for row in found["seconds"]["engine's"]] == [["loss", ""]]
    assert found["engines"][str(engine.number)][3] == 4


def test_tallies_go_with_their_jobs() -> None:
    tally = Tally("gone soon")
    tally.seconds["forward", "c1"] = 1.0
    assert "gone soon" in process_figures()["seconds"]
    del tally
    assert "gone soon" not in process_figures()["seconds"]


def test_a_follower_sees_updates_that_are_made_again() -> None:
    series = Series()
    follower = _Follower(series, 10)
    for step in (1, 2, 3):
        series.append(step, float(step), 0.0, 0.0)
    follower.length = 3
    assert follower.points() == {"step": [1, 2, 3], "loss": [1.0, 2.0, 3.0]}
    series.truncate(1)
    for step in (2, 3):
        series.append(step, 10.0 * step, 0.0, 0.0)
    series.append(4, 4.0, 0.0, 0.0)
    follower.length = 3
    series.truncate(1)
    series.append(2, 20.0, 0.0, 0.0)
    follower.length = 2
    assert follower.points() == {"step": [1, 2], "loss": [1.0, 20.0]}


def test_the_last_offer_is_sent_though_nothing_follows(client: Client) -> None:
    publisher = Publisher(client, "run7")
    publisher.begin(PLAN, [0], "maps/last.zarr")
    for block in (1, 2, 3):
        publisher.finished(block)
    end = time.monotonic() + 20
    while [job["done"] for job in shown(client, "predictions") if job["title"] == "last.zarr"] != [
        4
    ]:
        assert time.monotonic() < end
        time.sleep(0.1)
    publisher.end()
    (job,) = (job for job in shown(client, "predictions") if job["title"] == "last.zarr")
    assert (job["state"], job["done_earlier"], job["blocks"]) == ("stopped", 1, 8)


def test_many_offers_are_one_message_a_second(client: Client) -> None:
    scheduler = client.cluster.scheduler
    before = scheduler._broker._topics["znn"].count
    channel = Channel(client, "training")
    for _ in range(1000):
        channel.offer(dict)
    time.sleep(1.5)
    assert 1 <= scheduler._broker._topics["znn"].count - before <= 3
    assert NAME in scheduler.plugins


def test_a_scheduler_that_is_gone_holds_nobody_up() -> None:
    with local_cluster(1, dashboard=False) as client:
        channel = Channel(client, "training")
        channel.offer(dict)
    began = time.monotonic()
    channel.close(dict)
    assert time.monotonic() - began < 20
