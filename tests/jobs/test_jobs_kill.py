"""Jobs whose workers, drivers and scheduler are killed or stopped: they end with the same bits."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client
from job_cases import (
    UPDATES,
    assert_same_bits,
    cluster,
    driver_of,
    final_parameters,
    write_project,
)
from real_cluster import RealCluster, names, wait_until

import znn_dask as znn
from znn_dask.jobs.handle import Job
from znn_dask.jobs.records import checkpoints_name
from znn_dask.training.checkpoint import list_checkpoints
from znn_dask.training.config import load_config
from znn_dask.training.from_config import trainer_from_config

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def uninterrupted(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Parameters after an ordinary training."""
    config = load_config(project, [f"training.folder={tmp_path_factory.mktemp('plain')}/c"])
    with znn.local_cluster(1, dashboard=False) as client:
        trainer = trainer_from_config(config, client, progress=False)
        trainer.fit(UPDATES)
    return dict(trainer.parameters)


def steps(job: Job) -> int:
    """The last update of which there is a checkpoint."""
    history = job.history
    folder = f"{job.location}/{checkpoints_name(history.attempt)}" if history.attempt else ""
    found = list_checkpoints(folder) if folder else []
    return found[-1].step if found else 0


def test_a_job_outlives_any_number_of_its_drivers(
    project: Path, uninterrupted: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """More often than Dask would allow a task, and a worker that is not the driver's as well."""
    with cluster(tmp_path / "cluster", 2) as (real, client):
        job = znn.submit(project, client, folder=tmp_path / "jobs")
        for i in range(5):
            reached = steps(job)
            wait_until(lambda: job.history.attempt == i + 1)  # noqa: B023
            wait_until(lambda: steps(job) > reached)  # noqa: B023
            driver = driver_of(client, job)
            if i == 2:
                (other,) = names(client) - {driver}
                real.kill(other)
                real.add_worker(f"instead-of-{other}-{i}")
            real.add_worker(f"instead-{i}")
            real.kill(driver)
        assert job.wait(60) == "completed"
        assert job.history.attempt == 6
        assert_same_bits(final_parameters(job), uninterrupted)
        assert "was lost with its worker" in job.log()
