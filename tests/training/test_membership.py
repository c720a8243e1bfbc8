"""Workers that join, leave, die or stop, and a scheduler that dies: the bits stay the same."""

import os
import platform
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client
from real_cluster import RealCluster, names, wait_until
from small_network import NETWORK, OUTPUT
from striped_volume import write_volume

from znn_dask.cluster import crew as crew_module
from znn_dask.cluster import session as session_module
from znn_dask.cluster.checks import ClusterWarning
from znn_dask.cluster.local import local_cluster
from znn_dask.cluster.members import members, present_workers
from znn_dask.cluster.session import Session
from znn_dask.taskgraph.plan import Plan
from znn_dask.training import loop as loop_module
from znn_dask.training import trainer as trainer_module
from znn_dask.training.checkpoint import load_checkpoint
from znn_dask.training.optimizer import SGD
from znn_dask.training.trainer import Trainer, TrainingError

pytestmark = pytest.mark.cluster
Make = Callable[..., Trainer]


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volume(tmp_path_factory.mktemp("data") / "v.zarr")


@pytest.fixture
def make(volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A trainer of batches of 4 that uses all workers there are, and looks for them often.

    Each pass is a granule: so the updates are few that are made while a process starts.
    """
    monkeypatch.setattr(Plan, "steps_per_granule", 0)
    monkeypatch.setattr(trainer_module, "Estimate", lambda *_: None)
    monkeypatch.setattr(session_module, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(loop_module, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(loop_module, "_CUT_SECONDS", 1.0)

    def make(client: Client, folder: str = "checkpoints", **changes: Any) -> Trainer:
        settings: dict[str, Any] = {
            "optimizer": SGD(1e-4, momentum=0.9),
            "folder": tmp_path / folder,
            "checkpoint_every": 0,
            "validate_every": 0,
            "batch": 4,
            "seed": 4,
            "progress": False,
        }
        return Trainer(NETWORK, volume, OUTPUT, client=client, **settings | changes)

    return make


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    settings = {"distributed.scheduler.worker-ttl": "3s"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Dask's, of connections that were lost
        with RealCluster(folder, settings=settings) as cluster:
            yield cluster


class Epochs:
    """Notes the workers (by name) and the first step of every epoch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[set[str], int]] = []
        begin = Session.start

        def start(session: Session, *arguments: Any) -> None:
            begin(session, *arguments)
            workers = present_workers(session.client)
            used = {workers[address]["name"] for address in session.workers if address in workers}
            self.seen.append((used, arguments[-1]))

        monkeypatch.setattr(Session, "start", start)

    def wait_for(self, workers: set[str]) -> None:
        wait_until(lambda: self.seen and self.seen[-1][0] == workers, 40)


def train_during(trainer: Trainer, events: Callable[[], None]) -> int:
    """Train while `events` happen, then stop as Ctrl-C does; the updates that were made."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            events()
        except BaseException as error:
            raised.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=run)
    thread.start()
    trainer.fit(1_000_000)
    thread.join()
    if raised:
        raise raised[0]
    return trainer.step


def assert_undisturbed_bits(make: Make, trainer: Trainer) -> None:
    Plan.steps_per_granule = 20  # type: ignore[assignment, method-assign]  # put back by `make`
    with local_cluster(1, dashboard=False) as client:
        undisturbed = make(client, "undisturbed")
        undisturbed.fit(trainer.step)
    found, expected = (load_checkpoint(t.checkpoint) for t in (trainer, undisturbed))
    assert found.step == expected.step == trainer.step
    for kind in ("parameters", "momenta"):
        for name, values in getattr(expected, kind).items():
            assert getattr(found, kind)[name].tobytes() == values.tobytes(), name
    losses = [saved.curve.train.column("loss") for saved in (found, expected)]
    np.testing.assert_array_equal(*losses)


def test_workers_that_are_killed_or_stopped_change_nothing(
    cluster: RealCluster, make: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Plan, "steps_per_granule", 20)
    cluster.add_worker("a")
    cluster.add_worker("b")
    with Client(cluster.address) as client:
        client.wait_for_workers(2)
        trainer = make(client)
        epochs = Epochs(monkeypatch)

        def events() -> None:
            epochs.wait_for({"a", "b"})
            cluster.add_worker("c", threads=2)
            wait_until(lambda: trainer.step > 20)
            cluster.kill("a")
            epochs.wait_for({"b", "c"})
            cluster.stop("b")  # dropped by the scheduler when it has been silent for 3 s
            epochs.wait_for({"c"})

        train_during(trainer, events)
        assert len(trainer.curve.train) == trainer.step
    assert_undisturbed_bits(make, trainer)


def test_workers_that_join_or_leave_cost_no_replay(
    cluster: RealCluster, make: Make, monkeypatch: pytest.MonkeyPatch
):
    cluster.add_worker("a")
    with Client(cluster.address) as client:
        client.wait_for_workers(1)
        trainer = make(client)
        epochs = Epochs(monkeypatch)
        reached = []

        def events() -> None:
            wait_until(lambda: trainer.step > 10)
            reached.append(trainer.step)
            cluster.add_worker("b")
            epochs.wait_for({"a", "b"})
            reached.append(trainer.step)
            client.retire_workers(names=["a"])
            epochs.wait_for({"b"})
            wait_until(lambda: trainer.step > reached[-1] + 10)

        train_during(trainer, events)
        (_, first), (_, second), *_ = epochs.seen
        assert first == 0
        assert reached[0] <= second <= reached[1]  # the state as it was, not an older one
    assert_undisturbed_bits(make, trainer)


def test_a_scheduler_that_is_killed_ends_the_training_with_a_checkpoint(
    cluster: RealCluster, make: Make
):
    cluster.add_worker("a")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
        Client(cluster.address, timeout=2) as client,
    ):
        client.wait_for_workers(1)
        trainer = make(client)

        def kill() -> None:
            wait_until(lambda: trainer._kept_step > 0)  # there is a snapshot, and no checkpoint
            cluster.scheduler.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        began = time.monotonic()
        with pytest.raises(TrainingError, match="the scheduler is gone; the last good") as raised:
            trainer.fit(1_000_000)
        thread.join()
        assert time.monotonic() - began < 60
        assert "\n" not in str(raised.value)
    saved = load_checkpoint(trainer.checkpoint)
    assert saved.step == trainer.step > 0
    assert_undisturbed_bits(make, trainer)


OTHER_BLAS = {"OPENBLAS_CORETYPE": "Prescott"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="kernel families of x86 are asked for")
def test_a_worker_of_other_libraries_is_left_out(
    cluster: RealCluster, make: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(crew_module, "_LIKENESS_SECONDS", 0.5)
    cluster.add_worker("a")
    with Client(cluster.address) as client:
        client.wait_for_workers(1)
        trainer = make(client)
        epochs = Epochs(monkeypatch)

        def events() -> None:
            epochs.wait_for({"a"})
            cluster.add_worker("b", threads=2, environment=OTHER_BLAS)
            wait_until(lambda: names(client) == {"a", "b"})
            reached = trainer.step
            wait_until(lambda: trainer.step > reached + 100)

        with pytest.warns(ClusterWarning) as warned:
            train_during(trainer, events)
        assert [used for used, _ in epochs.seen] == [{"a"}]
        (message,) = [str(w.message) for w in warned if "is not used" in str(w.message)]
        ours, theirs = (m.libraries["blas"] for m in members(client))  # not in this order
        assert ours != theirs
        assert repr(ours) in message
        assert repr(theirs) in message

        cluster.kill("a")
        wait_until(lambda: names(client) == {"b"})
        saved = load_checkpoint(trainer.checkpoint)
        resumed = make(client, resume=trainer.checkpoint)
        with pytest.warns(ClusterWarning, match="libraries changed since update"):
            resumed.fit(trainer.step + 5)
        assert load_checkpoint(resumed.checkpoint).libraries["blas"] != saved.libraries["blas"]

        cluster.add_worker("c")
        wait_until(lambda: names(client) == {"b", "c"})
        both = make(client, any_worker=True, folder="both")
        both.fit(5)
        assert epochs.seen[-1][0] == {"b", "c"}
        found = load_checkpoint(both.checkpoint).libraries["blas"]
        assert found == " | ".join(sorted([ours, theirs]))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="kernel families of x86 are asked for")
def test_only_workers_of_other_libraries_end_the_training(
    cluster: RealCluster, make: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(crew_module, "_LIKENESS_SECONDS", 0.5)
    cluster.add_worker("a")
    cluster.add_worker("b", environment=OTHER_BLAS)
    with Client(cluster.address) as client:
        client.wait_for_workers(2)
        trainer = make(client, checkpoint_every=50)

        def kill() -> None:
            wait_until(lambda: trainer._checkpoint_step > 0)
            (used,) = [w["name"] for a, w in present_workers(client).items() if a in seen[0]]
            cluster.kill(used)

        seen: list[tuple[str, ...]] = []
        begin = Session.start

        def start(session: Session, *arguments: Any) -> None:
            begin(session, *arguments)
            seen.append(session.workers)

        monkeypatch.setattr(Session, "start", start)
        thread = threading.Thread(target=kill)
        thread.start()
        with (
            pytest.warns(ClusterWarning, match="is not used, its bits would differ: blas"),
            pytest.raises(TrainingError, match="no worker has the libraries") as raised,
        ):
            trainer.fit(1_000_000)
        thread.join()
        assert "any_worker" in str(raised.value)
        assert "\n" not in str(raised.value)
        assert load_checkpoint(trainer.checkpoint).step == trainer.step
