"""A small training for jobs, and clusters of real processes that keep jobs in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client
from real_cluster import RealCluster, names, wait_until
from small_network import NETWORK
from striped_volume import write_volume

from znn_dask.cli.arguments import connect
from znn_dask.jobs.handle import Job
from znn_dask.network import write_znn
from znn_dask.training.checkpoint import load_checkpoint

UPDATES = 400

CONFIG = """
[network]
file = "small.znn"
[[data.train]]
volume = "volume.zarr"
[data]
preprocessing = "none"
[training]
output_size = [2, 6, 6]
updates = {updates}
checkpoint_every = 20
validate_every = 1000
[optimizer]
eta = 0.01
momentum = 0.9
"""


def write_project(folder: Path, updates: int = UPDATES) -> Path:
    """Volume, network and configuration; returns the latter."""
    folder.mkdir(exist_ok=True)
    write_volume(folder / "volume.zarr")
    write_znn(NETWORK, folder / "small.znn")
    (folder / "config.toml").write_text(CONFIG.format(updates=updates))
    return folder / "config.toml"


@contextmanager
def cluster(
    folder: Path, workers: int = 2, jobs: str | Path | None = None, **settings: Any
) -> Iterator[tuple[RealCluster, Client]]:
    """A scheduler with a keeper, and workers named a, b, c ..."""
    folder.mkdir(exist_ok=True)
    keeping = {"distributed.scheduler.preload": ["znn_dask.jobs.preload"]}
    if jobs is not None:
        keeping["znn.jobs.folder"] = str(jobs)
    with RealCluster(folder, settings=keeping | settings) as real:
        for name in "abcdefgh"[:workers]:
            real.add_worker(name)
        with connect(real.address) as client:
            wait_until(lambda: len(names(client)) == workers)
            yield real, client


def driver_of(client: Client, job: Job) -> str:
    """Name of the worker where the driver of the last attempt is."""
    address = job.history.claims[-1].worker
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return str(workers[address]["name"])


def final_parameters(job: Job) -> dict[str, np.ndarray]:
    """What a job left, of its newest checkpoint."""
    latest = job.checkpoints.latest
    assert latest is not None
    return dict(load_checkpoint(latest).parameters)


def assert_same_bits(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def environment() -> dict[str, str]:
    root = Path(__file__).resolve().parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1"}
