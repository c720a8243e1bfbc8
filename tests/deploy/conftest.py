"""Places and processes of these tests."""

from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from machines import Processes, blocks, cluster_folder, commands, write_project


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster's folder: dask.yaml, tls.yaml, certificates."""
    return cluster_folder(tmp_path_factory.mktemp("cluster"))


@pytest.fixture(scope="session")
def foreign_certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of another cluster, with another authority."""
    return cluster_folder(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return commands(tmp_path_factory.mktemp("bin"))


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A project after what README says of one machine, in one process, and a prediction."""
    folder = tmp_path_factory.mktemp("here")
    write_project(folder / "project")
    (train,) = blocks("One machine")
    predict = "znn-dask predict project/again project/volume.zarr/image project/again.zarr"
    done = Processes(folder, environment).run(["bash", "-c", f"set -e\n{train}{predict}"])
    assert done.returncode == 0, done.stderr
    return folder / "project"


@pytest.fixture
def processes(tmp_path: Path, environment: dict[str, str]) -> Iterator[Processes]:
    with Processes(tmp_path, environment) as processes:
        yield processes


@pytest.fixture(autouse=True)
def _no_certificates() -> Iterator[None]:
    """Whatever is configured on this machine, this process has no certificates to begin with."""
    without = {
        "distributed.comm.require-encryption": None,
        "distributed.comm.tls.ca-file": None,
        **{
            f"distributed.comm.tls.{role}.{file}": None
            for role in ("scheduler", "worker", "client")
            for file in ("cert", "key")
        },
    }
    with dask.config.set(without):
        yield
