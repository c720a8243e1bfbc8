"""Jobs whose workers, drivers and scheduler are killed or stopped: they end with the same bits."""

import signal
from pathlib import Path

import numpy as np
import pytest
from job_cases import (
    UPDATES,
    assert_same_bits,
    cluster,
    driver_of,
    final_parameters,
    write_project,
)
from real_cluster import names, take_for_dead, wait_until

import znn_dask as znn
from znn_dask.jobs.handle import Job
from znn_dask.jobs.records import checkpoints_name
from znn_dask.jobs.state import steps_done
from znn_dask.training.checkpoint import list_checkpoints
from znn_dask.training.config import load_config
from znn_dask.training.from_config import trainer_from_config

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def uninterrupted(project: Path) -> dict[str, np.ndarray]:
    """Parameters after an ordinary training, whose checkpoints are beside its configuration."""
    config = load_config(project)
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
    few = {"distributed.scheduler.allowed-failures": 1}
    with cluster(tmp_path / "cluster", 2, **few) as (real, client):
        job = znn.submit(project, client, folder=tmp_path / "jobs")
        for i in range(4):
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
        assert job.wait(150) == "completed"
        assert job.history.attempt == 5
        assert_same_bits(final_parameters(job), uninterrupted)
        assert "was lost with its worker" in job.log()


def test_a_driver_that_only_seemed_dead_cannot_write(
    project: Path, uninterrupted: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """Its worker is stopped, removed from the cluster, and goes on in the middle of its training:
    what it says and saves then is no part of the job."""
    with cluster(tmp_path / "cluster", 2) as (real, client):
        job = znn.submit(project, client, folder=tmp_path / "jobs")
        wait_until(lambda: steps(job) > 0)
        first = driver_of(client, job)
        real.stop(first)
        take_for_dead(client, job.history.claims[0].worker)
        own = f"{job.location}/{checkpoints_name(1)}"
        wait_until(lambda: job.history.attempt == 2)
        before = [info.name for info in list_checkpoints(own)]
        real.workers[first].send_signal(signal.SIGCONT)
        assert job.wait(150) == "completed"
        wait_until(lambda: real.workers[first].poll() is not None)  # it found itself removed
        after = [info.name for info in list_checkpoints(own)]
        assert len(set(after) - set(before)) <= 1  # one may have been under way
        history = job.history
        assert [claim.attempt for claim in history.claims] == [1, 2]
        assert list(history.ends) == [2]
        assert_same_bits(final_parameters(job), uninterrupted)


def test_a_new_scheduler_finds_the_unfinished_jobs(
    project: Path, uninterrupted: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """What is running and what waits, in the folder that the configuration names."""
    folder = tmp_path / "jobs"
    with cluster(tmp_path / "first", 1, jobs=folder) as (real, client):
        running = znn.submit(project, client)
        waiting = znn.submit(project, client, overrides=("training.updates=40",))
        wait_until(lambda: steps(running) > 0)
        real.scheduler.send_signal(signal.SIGKILL)
        real.scheduler.wait(30)
    with cluster(tmp_path / "second", 1, jobs=folder) as (real, client):
        again, other = znn.list_jobs(client)
        assert (again.id, other.id) == (running.id, waiting.id)
        assert again.wait(150) == "completed"
        assert_same_bits(final_parameters(again), uninterrupted)
        assert other.wait(150) == "completed"
        assert other.history.claims[0].time > again.history.claims[-1].time  # one at a time


def test_a_prediction_outlives_its_drivers(
    project: Path, uninterrupted: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """Though it replaces another map: it does not begin again each time."""
    checkpoint, image = project.parent / "checkpoints", project.parent / "volume.zarr/image"
    out, block = tmp_path / "map.zarr", {"block": (1, 4, 4), "chunks": (1, 4, 4)}
    expected = znn.predict(checkpoint, image, tmp_path / "here.zarr", progress=False, **block)
    znn.predict(checkpoint, image, out, progress=False, border="mirror")
    work = znn.Prediction(str(checkpoint), str(image), str(out), {**block, "overwrite": True})
    with cluster(tmp_path / "cluster", 2) as (real, client):
        job = znn.submit(work, client, folder=tmp_path / "jobs")
        for i in range(2):
            wait_until(lambda: job.history.attempt == i + 1, 120)  # noqa: B023
            before = steps_done(job.history)
            wait_until(lambda: steps_done(job.history) > before, 120)  # noqa: B023
            real.add_worker(f"instead-{i}")
            real.kill(driver_of(client, job))
        assert job.wait(150) == "completed"
        history = job.history
    assert history.attempt == 3
    assert [claim.begun for claim in history.claims] == [False, True, True]
    assert 0 < history.claims[1].step < history.claims[2].step
    np.testing.assert_array_equal(znn.open_array(out)[:], znn.open_array(expected)[:])
