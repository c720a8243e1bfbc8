"""A job whose folder is in an object store, and whose driver is killed."""

from pathlib import Path

import pytest
from job_cases import assert_same_bits, cluster, driver_of, final_parameters, write_project
from real_cluster import wait_until

import znn_dask as znn
from znn_dask.training.checkpoint import load_checkpoint
from znn_dask.training.config import load_config
from znn_dask.training.from_config import trainer_from_config

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_a_job_on_s3_goes_on_after_its_driver(bucket: str, tmp_path: Path) -> None:
    config = write_project(tmp_path / "project", updates=60)
    with cluster(tmp_path / "cluster", 2) as (real, client):
        job = znn.submit(config, client, folder=f"{bucket}/jobs")
        assert job.location.startswith(f"{bucket}/jobs/")
        wait_until(lambda: job.checkpoints.latest is not None, 120)
        real.kill(driver_of(client, job))
        assert job.wait(150) == "completed"
        history = job.history
        assert history.attempt == 2
        assert history.claims[1].origin is not None
        job.fetch(tmp_path / "got")
        found = final_parameters(job)
    assert_same_bits(dict(load_checkpoint(tmp_path / "got" / "checkpoints").parameters), found)
    plain = load_config(config, [f"training.folder={tmp_path}/plain"])
    with znn.local_cluster(1, dashboard=False) as client:
        trainer = trainer_from_config(plain, client, progress=False)
        trainer.fit(60)
    assert_same_bits(found, dict(trainer.parameters))
