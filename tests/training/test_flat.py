"""Nothing grows with the number of updates: tasks on the scheduler, memory of all processes."""

import threading
from pathlib import Path

import pytest
from distributed import Client, Scheduler
from real_cluster import RealCluster
from striped_volume import write_volume

from znn_dask.network import Network
from znn_dask.taskgraph.plan import Plan
from znn_dask.training import loop as loop_module
from znn_dask.training.optimizer import SGD
from znn_dask.training.trainer import Trainer

UPDATES = 2000
WARM = 500  # updates until the pools of memory are full
MOST_TASKS = 60
MOST_GROWTH = 16e6  # bytes, of either process; nothing cut would be 6 kB for each granule


def known_tasks(dask_scheduler: Scheduler) -> int:
    return len(dask_scheduler.tasks)


def resident(pid: int) -> int:
    """Bytes of memory that a process has now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.cluster
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_tasks_and_memory_do_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Granules of 10 updates, and a cut every half second: as many as in a training of hours."""
    monkeypatch.setattr(loop_module, "_CUT_SECONDS", 0.5)
    monkeypatch.setattr(Plan, "steps_per_granule", 10)
    network = Network().input().conv("c", 2, (1, 3, 3), "linear", node="output")
    volume = write_volume(tmp_path / "v.zarr")
    with RealCluster(tmp_path) as cluster:
        worker = cluster.add_worker("only")
        with Client(cluster.address) as client:
            trainer = Trainer(
                *(network, volume, (1, 8, 8)),
                optimizer=SGD(1e-6),
                folder=tmp_path / "checkpoints",
                client=client,
                progress=False,
            )
            samples: list[tuple[int, int, int, int]] = []
            over = threading.Event()

            def watch() -> None:
                while not over.wait(0.1):
                    tasks = client.run_on_scheduler(known_tasks)
                    memory = resident(cluster.scheduler.pid), resident(worker.pid)
                    samples.append((trainer.step, tasks, *memory))

            watching = threading.Thread(target=watch)
            watching.start()
            try:
                trainer.fit(UPDATES)
            finally:
                over.set()
                watching.join()
    assert max(tasks for _, tasks, _, _ in samples) <= MOST_TASKS
    warm = [sample for sample in samples if sample[0] >= WARM]
    assert len(warm) >= 5, "too few samples to tell"
    for column in (2, 3):
        assert warm[-1][column] - warm[0][column] < MOST_GROWTH
