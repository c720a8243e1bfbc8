"""Predictions on Dask workers: same bits, bounded, surviving lost workers."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import prediction_reference as reference
import pytest
from distributed import Client, LocalCluster
from prediction_cases import boundary_network, boundary_state, dense, make_image, standardised
from prediction_reference import prediction

from znn_dask.data.volume import create_image, open_array
from znn_dask.inference import PredictionError, predict, prediction_status
from znn_dask.inference.need import Room
from znn_dask.inference.on_dask import _lanes
from znn_dask.inference.sizing import Cost

SHAPE = (7, 30, 41)
BLOCK = (2, 8, 16)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    array = create_image(tmp_path / "in.zarr", "image", SHAPE, "uint8", (4, 16, 16))
    array[:] = make_image(SHAPE)
    return tmp_path / "in.zarr/image"


@pytest.fixture(scope="module")
def inproc() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return dense(boundary_network(), boundary_state(), standardised(make_image(SHAPE)))


def test_same_bits_as_on_threads_of_this_process(tmp_path, image, inproc, expected, watched):
    here = predict(boundary_state(), image, tmp_path / "a", block=BLOCK, progress=False)
    there = predict(
        boundary_state(), image, tmp_path / "b", block=BLOCK, progress=False, client=inproc
    )
    np.testing.assert_array_equal(open_array(here)[:], open_array(there)[:])
    np.testing.assert_allclose(open_array(there)[:], expected, atol=2e-6)
    assert watched.calls == 2 * 27


def test_threads_that_compute_are_bounded_and_last(tmp_path, image, inproc, watched):
    predict(boundary_state(), image, tmp_path / "a", block=BLOCK, progress=False, client=inproc)
    assert 2 <= watched.peak <= 6  # on each worker one for each thread, and one to fill gaps
    assert len(watched.threads) <= 6  # and not one per block
    assert not _lanes


def test_memory_limit_bounds_each_worker(tmp_path, image, inproc, watched):
    one = Cost(boundary_network()).chosen(BLOCK).bytes(Room(1, 1))
    predict(
        boundary_state(),
        image,
        tmp_path / "a",
        block=BLOCK,
        progress=False,
        client=inproc,
        memory_limit=one,
    )
    assert watched.peak <= 2  # one on each of the two workers
    with pytest.raises(PredictionError, match="one block needs"):
        predict(
            boundary_state(),
            image,
            tmp_path / "b",
            block=BLOCK,
            client=inproc,
            memory_limit=one - 1,
        )


def test_tasks_in_flight_are_bounded(tmp_path, image, inproc, watched, monkeypatch):
    """Two workers of two threads: eight blocks at most, of 27, are known to the cluster."""
    submit, held = Client.submit, []

    def counting(self, function, *args, **kwargs):
        future = submit(self, function, *args, **kwargs)
        if kwargs["key"][0] == "predict:block":
            held.append(future)
            assert sum(f.status == "pending" for f in held) <= 8
        return future

    monkeypatch.setattr(Client, "submit", counting)
    predict(boundary_state(), image, tmp_path / "a", block=BLOCK, progress=False, client=inproc)
    assert len(held) == 27


def test_a_failing_block_is_named(tmp_path, image, inproc, monkeypatch):
    class Failing(reference.Wrapped):
        def before(self):
            raise OSError("no space\nleft")

    monkeypatch.setattr(prediction, "ForwardPass", Failing)
    with pytest.raises(PredictionError, match=r"block \d+ \(z .*3 times.*no space left"):
        predict(boundary_state(), image, tmp_path / "a", block=BLOCK, progress=False, client=inproc)


def test_interrupted(tmp_path, image, inproc, watched, monkeypatch):
    """Nothing stays behind on the cluster, finished blocks are kept, and a rerun does the rest."""

    def interrupting(reports, *_, **__):
        for _ in range(5):
            yield next(reports)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prediction, "track", interrupting)
        with pytest.raises(KeyboardInterrupt):
            predict(boundary_state(), image, tmp_path / "a", block=BLOCK, client=inproc)
    deadline = time.monotonic() + 10
    while any(inproc.processing().values()) or watched.running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not inproc.futures
    done = -1
    while done != (done := prediction_status(tmp_path / "a").done):
        time.sleep(0.5)  # blocks that are computed are still being written
    assert 5 <= done < 27
    watched.reset()
    predict(boundary_state(), image, tmp_path / "a", progress=False, client=inproc)
    assert watched.calls == 27 - done


class KillsItsWorker(reference.Wrapped):
    """Ends the worker process at the first call of all, or at every call."""

    flag: Path
    always: bool

    def before(self):
        if self.always or not self.flag.exists():
            self.flag.touch()
            os._exit(1)


def killing(flag: Path, always: bool):
    def make(*args, **kwargs):
        forward = KillsItsWorker(*args, **kwargs)
        forward.flag, forward.always = flag, always
        return forward

    return make


@pytest.mark.cluster
def test_two_processes_one_of_which_dies(tmp_path, image, expected, monkeypatch):
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        monkeypatch.setattr(prediction, "ForwardPass", killing(tmp_path / "flag", always=False))
        out = predict(
            boundary_state(), image, tmp_path / "a", block=BLOCK, progress=False, client=client
        )
        assert (tmp_path / "flag").exists()
        assert prediction_status(out).finished
        np.testing.assert_allclose(open_array(out)[:], expected, atol=2e-6)
        monkeypatch.setattr(prediction, "ForwardPass", killing(tmp_path / "flag", always=True))
        with pytest.raises(PredictionError, match=r"block \d+ \(z .*KilledWorker"):
            predict(
                boundary_state(), image, tmp_path / "b", block=BLOCK, progress=False, client=client
            )
