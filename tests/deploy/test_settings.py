"""deploy/dask.yaml: its keys exist in Dask, and processes of their own take them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dask.config
import distributed
import pytest
import yaml
from distributed import Client
from machines import DEPLOY, Processes

ENVIRONMENT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SETTINGS = yaml.safe_load((DEPLOY / "dask.yaml").read_text(encoding="utf-8"))


def leaves(settings: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_every_key_is_one_of_dask() -> None:
    file = Path(distributed.__file__).with_name("distributed.yaml")
    known = dict(leaves(yaml.safe_load(file.read_text(encoding="utf-8"))))
    assert {key for key, _ in leaves(SETTINGS)} <= known.keys()


def test_it_is_the_only_file_with_settings_of_dask() -> None:
    """Certificates and jobs have files of their own, with other keys."""
    for path in DEPLOY.rglob("*.y*ml"):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            assert "distributed" not in document or path == DEPLOY / "dask.yaml", path


@pytest.mark.cluster
def test_a_scheduler_without_certificates_does_not_start(
    processes: Processes, tmp_path: Path
) -> None:
    folder = tmp_path / "settings"  # packages of Dask leave a template where DASK_CONFIG points
    folder.mkdir()
    shutil.copy(DEPLOY / "dask.yaml", folder)
    command = ["dask", "scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    done = processes.run(command, DASK_CONFIG=str(folder))
    assert done.returncode == 1
    assert "TLS expects a `ssl_context` argument" in done.stderr
    assert "Scheduler at" not in done.stderr


@pytest.mark.cluster
def test_scheduler_and_worker_processes_have_them(processes: Processes, certificates: Path) -> None:
    variables = {"DASK_CONFIG": str(certificates)}
    address = processes.scheduler(**variables)
    processes.worker(address, **variables)
    with dask.config.set(config_of(certificates)), Client(address, timeout=30) as client:
        client.wait_for_workers(1, timeout=60)

        def settings() -> dict[str, object]:
            return {key: dask.config.get(key) for key in keys}

        keys = [key for key, _ in leaves(SETTINGS)]
        expected = dict(leaves(SETTINGS))
        (worker,) = client.run(settings).values()
        assert worker == expected
        assert client.run_on_scheduler(settings) == expected
        (threads,) = client.run(lambda: [os.environ[name] for name in ENVIRONMENT]).values()
        assert threads == ["1"] * len(ENVIRONMENT)
        stealing = client.run_on_scheduler(
            lambda dask_scheduler: "stealing" in dask_scheduler.extensions
        )
        assert not stealing


def config_of(folder: Path) -> dict[str, object]:
    return dict(leaves(yaml.safe_load((folder / "tls.yaml").read_text(encoding="utf-8"))))
