"""Schedulers with the page: routes, menu, metrics, and that it breaks nothing."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client
from messages import prediction, training

from znn_dask.cluster.local import dashboard_link, local_cluster
from znn_dask.dashboard import page, preload
from znn_dask.dashboard.board import Board
from znn_dask.dashboard.channel import TOPIC
from znn_dask.dashboard.link import page_link
from znn_dask.dashboard.plugin import NAME
from znn_dask.dashboard.view import view


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(1) as client:
        yield client


@pytest.fixture
def base(client: Client) -> str:
    return dashboard_link(client).removesuffix("/status")


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def tell(client: Client, message: dict[str, Any]) -> None:
    client.log_event(TOPIC, message)


def test_a_local_cluster_has_the_page_in_its_menu(client: Client, base: str) -> None:
    assert page_link(client) == f"{base}/znn"
    assert "bokeh.min.js" in get(f"{base}/znn")
    assert '<a href="znn">Znn</a>' in get(f"{base}/status")


def test_json_says_what_the_page_shows(client: Client, base: str) -> None:
    tell(client, training(12, train={"step": [12], "loss": [float("nan")]}))
    tell(client, prediction([0, 1]))
    found = json.loads(get(f"{base}/znn.json"))
    (job,) = found["trainings"]
    assert (job["title"], job["step"], job["loss"]) == ("run", 12, None)
    (job,) = found["predictions"]
    assert (job["title"], job["done"], job["blocks"]) == ("map.zarr", 2, 24)


def test_prometheus_metrics_stand_beside_those_of_dask(client: Client, base: str) -> None:
    pytest.importorskip("prometheus_client")
    tell(client, training(12))
    text = get(f"{base}/metrics")
    assert 'znn_training_updates{id="training-1",title="run"} 12.0' in text
    assert "dask_scheduler_workers" in text


def test_messages_that_nobody_understands_harm_nothing(client: Client, base: str) -> None:
    tell(client, {"kind": "poem"})
    client.log_event(TOPIC, "no dictionary")
    assert client.submit(int, 1).result() == 1
    deadline = time.monotonic() + 30  # the worker's first figures come with a heartbeat
    while not json.loads(get(f"{base}/znn.json"))["workers"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_error_of_the_page_is_one_of_the_page_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    views: list[dict[str, Any]] = [{"trainings": "nonsense"}, view(Board(), 0.0)]
    shown = page.Page(lambda: views[0], "tcp://127.0.0.1:8786")
    shown.update()
    assert "met an error" in shown.root.children[1].text
    assert "could not be brought up to date" in caplog.text
    del views[0]
    shown.update()
    assert "nothing is running" in shown.root.children[0].text
    assert all("met an error" not in getattr(c, "text", "") for c in shown.root.children)


def test_a_page_that_cannot_be_added_leaves_the_scheduler_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise ImportError("no such thing")

    monkeypatch.setattr(preload, "_add_page", broken)
    with local_cluster(1) as client:
        link = dashboard_link(client)
        # Not /status: Dask's own page may fail while its first figures come.
        assert "Workers" in get(link.replace("/status", "/info/main/workers.html"))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(link.replace("/status", "/znn"))
        assert client.submit(int, 1).result() == 1


def test_a_scheduler_without_dashboard_has_none() -> None:
    with local_cluster(1, dashboard=False) as client:
        assert client.cluster.scheduler.plugins[NAME].board.jobs == {}
        assert client.submit(int, 1).result() == 1


def test_loading_it_twice_adds_one_page(client: Client) -> None:
    scheduler = client.cluster.scheduler
    before = list(scheduler.http_application.applications)

    async def again() -> None:
        preload.dask_setup(scheduler)

    asyncio.run_coroutine_threadsafe(again(), client.loop.asyncio_loop).result()
    assert scheduler.http_application.applications == before
