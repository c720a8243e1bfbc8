"""The page in a real browser, over a real training and a real prediction."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, chromium
from distributed import Client
from watched import trainer, write_volume

from znn_dask.cluster.local import SETTINGS, dashboard_link, local_cluster
from znn_dask.dashboard.link import page_link
from znn_dask.dashboard.style import DONE, MISSING, PASSES, SHARES, SPECTRA, TRAINING, VALIDATION
from znn_dask.inference import predict
from znn_dask.inference.watching import Watcher

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volume(tmp_path_factory.mktemp("data") / "volume.zarr")


class Gate(Watcher):
    """Holds a prediction after some blocks until somebody has looked."""

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self.looked = threading.Event()

    def finished(self, block: int) -> None:
        self._blocks -= 1
        if self._blocks == 0:
            assert self.looked.wait(120)


def test_a_training_and_a_prediction_are_seen(
    browser: Browser, volume: Path, tmp_path: Path
) -> None:
    with local_cluster(2) as client:
        browser.open(page_link(client))
        idle = browser.wait(lambda text: "Nothing is running on this cluster" in text)
        assert "trainer.fit" in idle
        training = trainer(volume, tmp_path / "run", client)
        thread = threading.Thread(target=training.fit, args=(1_000_000,))
        thread.start()
        try:
            text = browser.wait(
                lambda text: (
                    "training running" in text
                    and "validation loss" in text
                    and "Time by layer and pass" in text
                    and "B in FFT caches" in text
                )
            )
            assert "1 training running · 1 worker with 2 threads" in text
            assert re.search(r"[\d,]+ of 1,000,000 updates [\d.]+ k?\s*/s updates", text), text
            assert re.search(r"[\d.]+ [kM]?\s*/s output voxels", text), text
            made = _updates(text)
            browser.wait(lambda text: _updates(text) > made)
            for colour in (TRAINING, VALIDATION, PASSES["backward"], SHARES["forced"]):
                assert browser.pixels(colour) > 30, colour
            assert any(browser.pixels(colour) > 30 for colour in SPECTRA.values())
            for width in (1280, 1920):
                browser.open(page_link(client), width)  # late, and the whole curve is there
                browser.wait(lambda text: "training running" in text)
                browser.wait(lambda _: browser.pixels(VALIDATION) > 30)
                window, content = browser.width()
                assert content <= window
                browser.picture(tmp_path / f"training-{width}.png")
        finally:
            training.stop()
            thread.join()
        browser.wait(lambda text: "training stopped" in text)

        gate = Gate(7)
        image, out = str(volume / "image"), tmp_path / "map.zarr"
        options = {"client": client, "block": (8, 8, 8), "chunks": (8, 8, 8), "progress": False}
        run = threading.Thread(
            target=predict,
            args=(str(training.checkpoint), image, out),
            kwargs={**options, "watchers": [gate]},
        )
        run.start()
        try:
            text = browser.wait(lambda text: "prediction running" in text and "blocks" in text)
            text = browser.wait(lambda text: re.search(r"\b7 of \d+ blocks", text))
            assert "map.zarr" in text
            browser.wait(lambda _: browser.pixels(MISSING) > 20_000)  # squares, not only the bar
            some, missing = browser.pixels(DONE), browser.pixels(MISSING)
            browser.picture(tmp_path / "prediction.png")
        finally:
            gate.looked.set()
            run.join()
        browser.wait(lambda text: "prediction finished" in text)
        browser.wait(lambda _: browser.pixels(DONE) > some and browser.pixels(MISSING) < missing)
        assert browser.complaints() == []
        browser.leave()


def _updates(text: str) -> int:
    found = re.search(r"([\d,]+) of [\d,]+ updates", text)
    return int(found[1].replace(",", "")) if found else 0


DRIVER = """
import sys
from pathlib import Path
from distributed import Client
from watched import trainer
volume, folder, address = sys.argv[1:]
with Client(address) as client:
    trainer(Path(volume), Path(folder), client).fit(1_000_000)
"""


def test_a_scheduler_of_its_own_shows_two_trainings_apart_and_a_driver_that_died(
    browser: Browser, volume: Path, tmp_path: Path
) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for key, value in SETTINGS.items():
        environment["DASK_" + key.replace(".", "__").replace("-", "_").upper()] = str(value)
    processes: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"log-{len(processes)}").open("wb") as log:
            command = [sys.executable, *words]
            processes.append(
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path)
            )
        return processes[-1]

    file = str(tmp_path / "scheduler.json")
    here = ("--host", "127.0.0.1", "--scheduler-file", file)
    page = ("--dashboard-address", "127.0.0.1:0", "--preload", "znn_dask.dashboard.preload")
    try:
        start("-m", "distributed.cli.dask_scheduler", "--port", "0", *here, *page)
        start("-m", "distributed.cli.dask_worker", "--nthreads", "1", *here, "--no-dashboard")
        with Client(scheduler_file=file, timeout=60) as client:
            address = client.scheduler.address
            assert page_link(client).endswith("/znn")
            browser.open(page_link(client))
            text = browser.wait(lambda text: "Nothing is running" in text)
            assert f"znn-dask train config.toml --scheduler {address}" in text
            first, _ = (
                start("-c", DRIVER, str(volume), str(tmp_path / name), address)
                for name in ("first", "second")
            )
            folders = [str(tmp_path / name) for name in ("first", "second")]
            expected = ["2 trainings running", *folders]
            browser.wait(lambda text: all(part in text for part in expected), 120)
            browser.wait(lambda text: text.count("Time by layer and pass") == 2)
            first.kill()
            text = browser.wait(lambda text: "its driver is gone" in text, 120)
            assert "1 training running" in text
            browser.picture(tmp_path / "lost.png")
            assert browser.complaints() == []
            for name in ("status", "tasks", "workers"):
                browser.open(dashboard_link(client).replace("status", name))
                browser.wait(lambda text: "Znn" in text)
                browser.wait(lambda _: browser.picture()[60:].std() > 5)  # it is drawn
                browser.picture(tmp_path / f"{name}.png")
            browser.leave()
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
