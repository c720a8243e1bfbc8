"""The trainer on a small volume: it learns, goes on where it was, and loses nothing."""

import math
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster
from real_cluster import wait_until
from small_network import NETWORK, OUTPUT
from striped_volume import write_volume

from znn_dask.cluster import session as session_module
from znn_dask.cluster.checks import ClusterError, ClusterWarning, check_cluster
from znn_dask.cluster.local import local_cluster
from znn_dask.cluster.members import present_workers
from znn_dask.cluster.session import LOST, Session
from znn_dask.cluster.work import TrainingSpec
from znn_dask.network import format_znn, parse_znn
from znn_dask.taskgraph.plan import Plan
from znn_dask.taskgraph.state import UpdateRule
from znn_dask.training.checkpoint import best, latest, list_checkpoints, load_checkpoint
from znn_dask.training.loop import Loop
from znn_dask.training.optimizer import SGD
from znn_dask.training.trainer import Trainer, TrainingError

Arrays = dict[str, np.ndarray]
Make = Callable[..., Trainer]


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volume(tmp_path_factory.mktemp("data") / "v.zarr")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(2, dashboard=False) as client:
        yield client


@pytest.fixture
def make(volume: Path, client: Client, tmp_path: Path) -> Make:
    """A trainer of the small network; arguments replace the settings of the tests."""

    def make(**changes: Any) -> Trainer:
        settings: dict[str, Any] = {
            "optimizer": SGD(0.02, momentum=0.9, weight_decay=1e-4),
            "folder": tmp_path / "checkpoints",
            "checkpoint_every": 0,
            "validate_every": 0,
            "seed": 4,
            "client": client,
            "progress": False,
        }
        return Trainer(NETWORK, volume, OUTPUT, **settings | changes)

    return make


def group(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Set how many updates are in one granule; 0 makes each pass its own."""
    monkeypatch.setattr(Plan, "steps_per_granule", steps)


def trained(trainer: Trainer, updates: int) -> tuple[Arrays, Arrays]:
    trainer.fit(updates)
    assert trainer.step == updates
    saved = load_checkpoint(trainer.checkpoint)
    assert saved.step == updates
    return dict(saved.parameters), dict(saved.momenta)


def assert_same_bits(found: tuple[Arrays, Arrays], expected: tuple[Arrays, Arrays]) -> None:
    for arrays, others in zip(found, expected, strict=True):
        assert arrays.keys() == others.keys()
        for name, values in arrays.items():
            assert values.tobytes() == others[name].tobytes(), name


@pytest.fixture(scope="module")
def thirty(
    volume: Path, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Arrays, Arrays]:
    """Parameters and momenta after 30 undisturbed updates."""
    trainer = Trainer(
        *(NETWORK, volume, OUTPUT),
        optimizer=SGD(0.02, momentum=0.9, weight_decay=1e-4),
        folder=tmp_path_factory.mktemp("straight"),
        seed=4,
        client=client,
        progress=False,
    )
    return trained(trainer, 30)


def test_the_loss_falls(make: Make):
    trainer = make()
    before = trainer.parameters
    curve = trainer.fit(80)
    loss = curve.train.column("loss")
    assert list(curve.train.column("step")) == list(range(1, 81))
    assert loss[-10:].mean() < 0.5 * loss[:10].mean()
    assert curve.train.column("error")[-10:].mean() < 0.2
    assert trainer.checkpoint == latest(trainer.folder)
    saved = load_checkpoint(trainer.checkpoint)
    assert saved.step == 80
    assert saved.parameters.keys() == before.keys()
    assert all(p.dtype == np.float32 for p in saved.parameters.values())
    assert format_znn(parse_znn(saved.network)) == format_znn(trainer.network)
    np.testing.assert_array_equal(saved.curve.train.column("loss"), loss)


def test_more_of_the_same_is_one_call_more(make: Make, thirty: tuple[Arrays, Arrays]):
    trainer = make()
    trainer.fit(7)
    assert trainer.step == 7
    trainer.fit(5)  # done already
    assert_same_bits(trained(trainer, 30), thirty)
    assert len(trainer.curve.train) == 30


@pytest.mark.parametrize("first", [1, 15, 29])
def test_a_resumed_training_goes_on_with_the_same_bits(
    make: Make, thirty: tuple[Arrays, Arrays], first: int
):
    begun = make()
    begun.fit(first)
    resumed = make(resume=begun.folder)
    assert resumed.step == first
    assert_same_bits(trained(resumed, 30), thirty)
    assert list(resumed.curve.train.column("step")) == list(range(1, 31))


@pytest.mark.parametrize("steps", [0, 1, 4, 100])
def test_granules_do_not_change_the_bits(
    make: Make, thirty: tuple[Arrays, Arrays], monkeypatch: pytest.MonkeyPatch, steps: int
):
    group(monkeypatch, steps)
    assert_same_bits(trained(make(), 30), thirty)


def test_checkpoints_and_validations_do_not_change_the_bits(
    make: Make, volume: Path, thirty: tuple[Arrays, Arrays], monkeypatch: pytest.MonkeyPatch
):
    group(monkeypatch, 4)
    trainer = make(checkpoint_every=7, validate_every=10, validation_patches=2, validation=volume)
    assert_same_bits(trained(trainer, 30), thirty)


@pytest.mark.parametrize(("threads", "workers"), [(1, 1), (1, 2), (3, 1)])
def test_threads_do_not_change_the_bits(
    make: Make, thirty: tuple[Arrays, Arrays], threads: int, workers: int
):
    with local_cluster(threads, workers=workers, dashboard=False) as client:
        trainer = make(client=client)
        if workers == 1:
            found = trained(trainer, 30)
        else:
            with pytest.warns(ClusterWarning, match=r"2 workers .* batch of 1"):
                found = trained(trainer, 30)
    assert_same_bits(found, thirty)


def test_a_batch_has_the_same_bits_on_one_and_two_workers(make: Make, tmp_path: Path):
    one = trained(make(batch=3, folder=tmp_path / "one"), 8)
    with local_cluster(1, workers=2, dashboard=False) as client:
        two = trained(make(batch=3, folder=tmp_path / "two", client=client), 8)
    assert_same_bits(two, one)


def test_seeds_and_settings_do_change_the_bits(make: Make, thirty: tuple[Arrays, Arrays]):
    found, _ = trained(make(seed=5), 30)
    assert any(values.tobytes() != thirty[0][name].tobytes() for name, values in found.items())


def test_validation_and_the_best_checkpoint(make: Make, volume: Path):
    trainer = make(
        validate_every=5, checkpoint_every=4, validation_patches=3, validation=volume, keep=2
    )
    curve = trainer.fit(23)
    assert list(curve.validation.column("step")) == [5, 10, 15, 20]
    lowest = curve.best()
    found = best(trainer.folder)
    assert load_checkpoint(found).step == lowest.step
    kept = {info.step for info in list_checkpoints(trainer.folder)}
    assert kept == {20, 23, lowest.step}
    assert load_checkpoint(trainer.folder).step == 23


def test_validation_is_without_augmentation_and_the_same_every_time(make: Make, volume: Path):
    trainer = make(validate_every=2, validation_patches=4, validation=volume, optimizer=SGD(1e-30))
    losses = trainer.fit(8).validation.column("loss")
    assert len(set(losses)) == 1


def test_early_stopping(make: Make, volume: Path):
    trainer = make(
        validate_every=2,
        validation_patches=2,
        validation=volume,
        optimizer=SGD(1e-30),
        early_stopping=3,
    )
    curve = trainer.fit(1000)
    assert list(curve.validation.column("step")) == [2, 4, 6, 8]
    assert trainer.step == 8
    assert load_checkpoint(trainer.checkpoint).step == 8
    assert len(curve.train) == 8


def test_annealing_is_by_update(make: Make, tmp_path: Path):
    falling = SGD(0.02, momentum=0.5, anneal_factor=0.5, anneal_every=3)
    straight = trained(make(optimizer=falling, folder=tmp_path / "a"), 8)
    begun = make(optimizer=falling, folder=tmp_path / "b")
    begun.fit(4)
    assert_same_bits(trained(make(optimizer=falling, resume=begun.folder), 8), straight)


@pytest.mark.parametrize("steps", [0, 8])
def test_divergence_names_the_last_good_checkpoint(
    make: Make, monkeypatch: pytest.MonkeyPatch, steps: int
):
    group(monkeypatch, steps)
    trainer = make()
    trainer.fit(6)
    good = trainer.checkpoint
    # Less need not do: a sum of fused multiply-adds that overflows stays infinite, where inf - inf
    # would not be a number; tanh makes it 1, and the gradients of softmax are bounded.
    trainer.optimizer = SGD(1e38)
    with pytest.raises(TrainingError, match=r"not finite|the loss is") as raised:
        trainer.fit(60)
    assert str(good) in str(raised.value)
    assert trainer.checkpoint == good
    saved = load_checkpoint(good)
    assert saved.step == trainer.step == 6
    assert all(np.isfinite(p).all() for p in saved.parameters.values())
    assert [info.step for info in list_checkpoints(trainer.folder)] == [6]
    trainer.optimizer = SGD(0.02)
    assert len(trainer.fit(10).train) == 10  # it can go on from there


def test_divergence_before_any_checkpoint(make: Make):
    trainer = make(optimizer=SGD(1e38))
    with pytest.raises(TrainingError, match="there is no checkpoint yet"):
        trainer.fit(50)
    assert trainer.step == 0


def test_a_checkpoint_of_parameters_that_are_not_finite_is_not_written(make: Make):
    """The loss of the last update was finite; what the update made of it is not."""
    trainer = make(optimizer=SGD(1e45))
    with pytest.raises(TrainingError, match="not finite"):
        trainer.fit(1)
    assert latest(trainer.folder) is None


def test_what_cannot_be_continued_is_refused(make: Make, volume: Path, client: Client):
    begun = make()
    begun.fit(2)
    for change, message in (
        ({"seed": 5}, "the seed is 5, the checkpoint has 4"),
        ({"batch": 2}, "the batch is 2, the checkpoint has 1"),
        ({"loss": "square"}, "the loss is square, the checkpoint has softmax"),
    ):
        with pytest.raises(ValueError, match=message):
            make(resume=begun.folder, **change)
    wider = NETWORK.conv("c4", 2, 1, "linear")
    with pytest.raises(ValueError, match="the network differs"):
        Trainer(wider, volume, OUTPUT, resume=begun.folder, client=client, seed=4)
    with pytest.raises(ValueError, match=r"output size is \(2, 6, 7\), the checkpoint has \(2, 6"):
        Trainer(NETWORK, volume, (2, 6, 7), resume=begun.folder, client=client, seed=4)
    with pytest.warns(ClusterWarning, match="training data or its sampling changed"):
        make(resume=begun.folder, balance="patch")


def test_parts_that_do_not_fit_are_refused_at_once(volume: Path, client: Client):
    wrong = NETWORK.conv("c4", 5, 1, "linear")
    with pytest.raises(ValueError, match=r"5 channels; use 2 \(boundary\) or 3 \(affinity\)"):
        Trainer(wrong, volume, OUTPUT, client=client)
    with pytest.raises(ValueError, match=r"needs .* MB recomputing, the limit is 1 kB; no smaller"):
        Trainer(NETWORK, volume, OUTPUT, client=client, memory_limit=1000)
    with pytest.raises(ValueError, match="unknown loss 'cube'"):
        Trainer(NETWORK, volume, OUTPUT, client=client, loss="cube")


STOPPED = """
import sys
from pathlib import Path
from small_network import NETWORK, OUTPUT
from znn_dask.cluster.local import local_cluster
from znn_dask.training.trainer import Trainer

if __name__ == "__main__":
    with local_cluster(1, dashboard=False) as client:
        trainer = Trainer(
            NETWORK, Path(sys.argv[1]), OUTPUT, folder=sys.argv[2], checkpoint_every=5,
            client=client, progress=False, seed=4,
        )
        trainer.fit(1_000_000)
        print("stopped at", trainer.step, trainer.checkpoint, len(trainer.curve.train))
"""


def start_process(code: str, *arguments: Any) -> subprocess.Popen[str]:
    here = Path(__file__)
    path = os.pathsep.join([str(here.parents[2]), str(here.parents[1])])
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint(
    volume: Path, tmp_path: Path, number: signal.Signals, code: int
):
    """After Ctrl-C the program goes on; a job that is terminated exits."""
    process = start_process(STOPPED, volume, tmp_path / "c")
    wait_until(lambda: process.poll() is not None or latest(tmp_path / "c"))
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err == ""
    path = latest(tmp_path / "c")
    saved = load_checkpoint(path)
    assert saved.step == len(saved.curve.train) > 0
    assert out == (f"stopped at {saved.step} {path} {saved.step}\n" if code == 0 else "")


def test_fit_works_outside_the_main_thread(make: Make):
    trainer = make()
    thread = threading.Thread(target=trainer.fit, args=(5,))
    thread.start()
    thread.join(60)
    assert trainer.step == 5


def kill_worker_when(client: Client, condition: Callable[[], Any]) -> threading.Thread:
    """Kill -9 the process of the first worker, the one that trains, when `condition` holds."""
    first = min(present_workers(client))
    pid = client.run(os.getpid)[first]

    def kill() -> None:
        wait_until(condition)
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.cluster
@pytest.mark.parametrize(("workers", "steps"), [(1, 3), (2, 0)])
def test_a_killed_worker_changes_nothing(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, steps: int
):
    """With one worker its nanny starts another; with two the other one takes over."""
    group(monkeypatch, steps)
    monkeypatch.setattr(session_module, "_LOOK_SECONDS", 0.2)
    starts: list[int] = []

    def start(session: Session, *arguments: Any) -> None:
        starts.append(arguments[-1])
        begin(session, *arguments)

    begin = Session.start
    batch, updates = workers, 36
    settings = {"batch": batch, "checkpoint_every": 6}
    expected = trained(make(folder=tmp_path / "undisturbed", **settings), updates)
    monkeypatch.setattr(Session, "start", start)
    folder = tmp_path / "disturbed"
    with local_cluster(1, workers=workers, processes=True, dashboard=False) as client:
        killer = kill_worker_when(client, lambda: folder.exists() and latest(folder))
        trainer = make(client=client, folder=folder, **settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # Dask's, of the lost connection
            found = trained(trainer, updates)
        killer.join()
    assert len(starts) == 2, "the worker died too late: the test proves nothing"
    assert 6 <= starts[1] < updates
    assert_same_bits(found, expected)
    assert list(trainer.curve.train.column("step")) == list(range(1, updates + 1))


@pytest.mark.cluster
def test_a_worker_that_dies_again_and_again_ends_the_training(
    make: Make, monkeypatch: pytest.MonkeyPatch
):
    starts = []

    def start(session: Session, *arguments: Any) -> None:
        starts.append(arguments[-1])
        raise LOST[0]("a worker was lost")

    monkeypatch.setattr(Session, "start", start)
    with pytest.raises(TrainingError, match="workers were lost 6 times"):
        make().fit(5)
    assert starts == [0] * 6


def test_a_worker_lost_while_stopping_ends_at_the_last_checkpoint(
    make: Make, monkeypatch: pytest.MonkeyPatch, thirty: tuple[Arrays, Arrays]
):
    """Ctrl-C, then the loss: what is lost is not made again before it ends, but by the next fit."""
    group(monkeypatch, 2)
    trainer = make(checkpoint_every=4)
    collect = Loop._collect

    def losing(loop: Loop, submission: Any) -> Any:
        if submission.step > 4:
            loop.stop()
            raise LOST[0]("a worker was lost")
        return collect(loop, submission)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_collect", losing)
        curve = trainer.fit(30)
    assert trainer.step == curve.train[-1].step == load_checkpoint(trainer.folder).step == 4
    assert_same_bits(trained(trainer, 30), thirty)


def dask_cluster(workers: int) -> LocalCluster:
    """A cluster with Dask's own settings."""
    address = "127.0.0.1:0"
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=False, dashboard_address=address,
        worker_dashboard_address=address,
    )  # fmt: skip


def test_what_a_cluster_lacks_is_said(client: Client):
    assert check_cluster(client) == []
    with dask_cluster(3) as cluster, Client(cluster) as other:
        many, *settings = check_cluster(other, batch=2)
        assert many.startswith("3 workers of 1 thread(s), but a batch of 2 patch(es) uses 2: ")
        assert "start fewer workers with more threads" in many
        assert [line.split(" is ")[0] for line in settings] == [
            "scheduler setting distributed.scheduler.worker-saturation",
            "scheduler setting distributed.scheduler.work-stealing",
            "scheduler setting distributed.admin.low-level-log-length",
        ]
        assert check_cluster(other, batch=3) == settings


def test_a_cluster_without_workers_is_refused():
    with dask_cluster(0) as cluster, Client(cluster) as client:  # noqa: SIM117
        with pytest.raises(ClusterError, match="has no workers; start some"):
            check_cluster(client)


def tasks(client: Client, job: str) -> int:
    """Tasks of one job; what other tests left behind goes when Python collects it."""

    def count(dask_scheduler: Any) -> int:
        return sum(job in key for key in dask_scheduler.tasks)

    return client.run_on_scheduler(count)


@pytest.mark.parametrize("whole_steps", [True, False])
def test_cutting_bounds_what_dask_remembers(make: Make, client: Client, whole_steps: bool):
    trainer = make()
    spec = TrainingSpec(
        *(trainer.network, trainer.plan.arithmetic, trainer.loss, trainer.source),
        batch=2 - whole_steps,
    )
    session = Session(client, spec, whole_steps=whole_steps)
    session.start(trainer.parameters, None, 0)
    rule = UpdateRule(0.01, 0.9, 0.0, 1 / math.prod(OUTPUT))

    def train_three(first: int) -> None:
        for report in session.train(first, [rule] * 3):
            session.result(report)

    seen = []
    for first in range(0, 45, 3):
        train_three(first)
        seen.append(tasks(client, session.job))
        if first % 9 == 6:
            session.cut(first + 3)
            wait_until(lambda: tasks(client, session.job) <= 4)
    assert max(seen) < (15 if whole_steps else 120)  # of 35 and 420 without cuts
    parameters, _ = session.result(session.snapshot(45))
    assert all(np.isfinite(p).all() for p in parameters.values())
    session.close()
    wait_until(lambda: tasks(client, session.job) == 0)
