"""Memory of driver, scheduler and worker over many updates.

    python benchmarks/flat.py [--updates 40000] [--write]

A tiny network (a millisecond or two per update) is trained by `Trainer.fit` on a scheduler and a
worker in processes of their own. Every second the resident memory of the three processes and the
number of tasks that the scheduler knows are noted; a least-squares line through what comes after
the first third tells whether they grow. In that third the buffers of three processes fill up, and
the scheduler knows ever more tasks until it forgets the first ones, after a minute.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
from distributed import Client, Scheduler
from results import table, write_section

import znn_dask as znn
from znn_dask.cluster.local import SETTINGS
from znn_dask.data.volume import create_image
from znn_dask.network import Network

NETWORK = (
    Network()
    .input()
    .conv("c1", 4, (1, 3, 3))
    .conv("c2", 3, (1, 3, 3), "forward_logistics", node="output")
)
SIZE = (1, 16, 16)
EVERY = 1.0  # seconds between samples
CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Sample:
    """Updates made, resident megabytes of each process, tasks that the scheduler knows."""

    updates: int
    driver: float
    scheduler: float
    worker: float
    tasks: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--updates", type=int, default=40_000)
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        samples = measure(Path(folder), options.updates)
        seconds = time.perf_counter() - begin
    text = summary(samples, options.updates, seconds)
    print(text)
    if options.write:
        write_section("Memory over many updates", text)


def summary(samples: list[Sample], updates: int, seconds: float) -> str:
    """Five samples, and the growth of each column."""
    warm = [s for s in samples if s.updates >= updates // 3]
    shown = [warm[round(k * (len(warm) - 1) / 4)] for k in range(5)]
    rows = [
        (s.updates, *(f"{m:.1f}" for m in (s.driver, s.scheduler, s.worker)), s.tasks)
        for s in shown
    ]
    at = np.array([s.updates for s in warm]) / 10_000
    slopes = [
        np.polyfit(at, [getattr(s, name) for s in warm], 1)[0]
        for name in ("driver", "scheduler", "worker", "tasks")
    ]
    growth = ("growth per 10,000 updates", *(f"{s:+.1f}" for s in slopes[:3]), f"{slopes[3]:+.0f}")
    most = max(s.tasks for s in samples)
    return (
        f"`python benchmarks/flat.py`: {updates:,} updates of a tiny network in "
        f"{seconds:.0f} s, scheduler and worker in processes of their own. Resident megabytes "
        f"after warming up, and tasks that the scheduler knows (at most {most}). The learning "
        "curve takes 0.3 of them per 10,000 updates.\n\n"
        + table(("updates", "driver", "scheduler", "worker", "tasks"), [*rows, growth])
    )


def measure(folder: Path, updates: int) -> list[Sample]:
    """Samples of a whole training."""
    volume = write_volume(folder / "volume.zarr")
    with cluster(folder / "scheduler.json") as (client, pids):
        trainer = znn.Trainer(
            *(NETWORK, volume, SIZE),
            optimizer=znn.SGD(1e-6, momentum=0.9),
            folder=folder / "checkpoints",
            client=client,
            progress=False,
        )
        samples: list[Sample] = []
        over = threading.Event()

        def watch() -> None:
            while not over.wait(EVERY):
                memory = [resident(pid) for pid in pids]
                tasks = client.run_on_scheduler(known_tasks)
                samples.append(Sample(trainer.step, *memory, tasks))

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            trainer.fit(updates)
        finally:
            over.set()
            watching.join()
    return samples


@contextmanager
def cluster(file: Path) -> Iterator[tuple[Client, tuple[int, int, int]]]:
    """A client of a scheduler and a worker of one thread; pids of driver, scheduler, worker."""
    paths = os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"DASK_CONFIG": str(CHECKOUT / "deploy"), "PYTHONPATH": paths}
    where = ("--scheduler-file", str(file), "--no-dashboard")
    started = []
    for arguments in (
        ("scheduler", "--host", "127.0.0.1", "--port", "0", *where),
        ("worker", "--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", *where),
    ):
        command = [sys.executable, "-m", "dask", *arguments]
        started.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd=file.parent)
        )
    try:
        with dask.config.set(SETTINGS), Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(1, timeout=60)
            yield client, (os.getpid(), started[0].pid, started[1].pid)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def known_tasks(dask_scheduler: Scheduler) -> int:
    return len(dask_scheduler.tasks)


def resident(pid: int) -> float:
    """Megabytes of memory that a process has now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def write_volume(path: Path) -> Path:
    """(8, 64, 64) voxels of noise, in squares of one label."""
    shape = (8, 64, 64)
    z, y, x = np.indices(shape)
    values = {
        "image": np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8),
        "labels": (1 + x // 7 + 20 * (y // 7) + 400 * z).astype(np.uint32),
    }
    for name, data in values.items():
        create_image(path, name, shape, data.dtype, (8, 32, 32), (30, 6, 6))[...] = data
    return path


if __name__ == "__main__":
    main()
