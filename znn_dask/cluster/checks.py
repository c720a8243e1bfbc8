"""What a cluster must share with this process, and what differs."""

import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from distributed import Client, Scheduler

from znn_dask.cluster.fingerprint import difference
from znn_dask.cluster.local import SETTINGS
from znn_dask.cluster.members import present_workers

_PACKAGES = ("znn-dask", "dask", "distributed", "zarr")


class ClusterWarning(UserWarning):
    """The cluster works, but slower, with other bits or less safely than it could."""


class ClusterError(RuntimeError):
    """The cluster cannot run this package."""


def check_cluster(client: Client, *, batch: int = 1) -> list[str]:
    """Compare a cluster with this process: one line for each thing that differs.

    Raises
    ------
    ClusterError
        If there is no worker, or a worker or the scheduler lacks this package.
    """
    workers = present_workers(client)
    if not workers:
        raise ClusterError(f"the cluster at {client.scheduler.address} has no workers; start some")
    lines = []
    if len(workers) > batch:
        threads = next(iter(workers.values()))["nthreads"]
        lines.append(
            f"{len(workers)} workers of {threads} thread(s), but a batch of {batch} patch(es) uses "
            f"{batch}: start fewer workers with more threads (znn_dask.local_cluster()) or use a "
            "larger batch"
        )
    here = facts()
    for address, there in _run(client.run, facts).items():
        different = difference(here, there)
        if different:
            lines.append(f"worker {address} differs: {different}")
    settings = _run(client.run_on_scheduler, scheduler_settings)
    lines += [
        f"scheduler setting {key} is {value!r}, {SETTINGS[key]!r} is better"
        for key, value in settings.items()
        if value != SETTINGS[key]
    ]
    return lines


def warn_about(client: Client, *, batch: int = 1) -> None:
    """Emit a `ClusterWarning` for everything that `check_cluster` finds."""
    for line in check_cluster(client, batch=batch):
        warnings.warn(line, ClusterWarning, stacklevel=3)


def facts() -> dict[str, str]:
    """Versions that this process and the workers should share; `Session` sees to the bits."""
    return {name: _version(name) for name in _PACKAGES}


def scheduler_settings(dask_scheduler: Scheduler) -> dict[str, Any]:
    """The settings that a scheduler runs with, of those that matter to us."""
    return {
        "distributed.scheduler.worker-saturation": dask_scheduler.WORKER_SATURATION,
        "distributed.scheduler.work-stealing": "stealing" in dask_scheduler.extensions,
        "distributed.admin.low-level-log-length": dask_scheduler.transition_log.maxlen,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _run(run: Callable[..., Any], function: Callable[..., Any]) -> Any:
    try:
        return run(function)
    except ModuleNotFoundError as error:
        raise ClusterError(
            f"a worker or the scheduler lacks the package {error.name!r}: install znn-dask there"
        ) from error
