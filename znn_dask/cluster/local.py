"""A cluster on this machine: one process with all cores."""

import logging
import socket
from urllib.parse import urlsplit, urlunsplit

import dask
from distributed import Client

from znn_dask.cluster.security import listening_protocol
from znn_dask.taskgraph.machine import cores

# Graphs here are pinned and ordered by priority: queueing on the scheduler and stealing would let
# low-priority tasks overtake; message logs and spilling would keep or move large arrays.
SETTINGS = {
    "distributed.scheduler.worker-saturation": float("inf"),
    "distributed.scheduler.work-stealing": False,
    "distributed.admin.low-level-log-length": 1,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
}
"""Dask settings that this package wants of a cluster."""

PAGE = "znn_dask.dashboard.preload"
"""Module that adds the page `/znn` to a scheduler's dashboard."""

_UNINTERRUPTED = "znn_dask.cluster.uninterrupted"  # preload of worker processes
_LOOPBACK = "127.0.0.1:0"
_DASHBOARD_PORT = 8787


def local_cluster(
    threads: int | None = None,
    *,
    workers: int = 1,
    processes: bool = False,
    dashboard: bool = True,
    host: str | None = None,
) -> Client:
    """Start a cluster on this machine and connect to it.

    One worker with all cores is the default: a single patch is computed by the threads of one
    worker. Close the client to stop the cluster.

    Parameters
    ----------
    threads
        Threads of each worker; all cores of the machine over `workers` when not given.
    workers
        Workers; more than one only serves batches of several patches.
    processes
        Each worker in a process of its own (scripts then need `if __name__ == "__main__":`).
    dashboard
        Serve Dask's dashboard on a loopback port (8787 if it is free).
    host
        Where scheduler and workers listen, for clients and workers on other machines; beyond
        loopback only with TLS (`znn-dask certificates`). Nowhere when not given, or on loopback if
        there are processes.

    Raises
    ------
    SecurityError
        If `host` is beyond loopback and Dask is configured without certificates.
    """
    if host is not None:
        protocol = listening_protocol(host)
    elif processes:
        host, protocol = "127.0.0.1", None
    else:
        protocol = "inproc://"  # also where encryption is required: nothing leaves the process
    if threads is None:
        threads = max(1, cores() // workers)
    preload = [*dask.config.get("distributed.scheduler.preload", default=[]), PAGE]
    with dask.config.set({**SETTINGS, "distributed.scheduler.preload": preload}):
        return Client(
            n_workers=workers,
            threads_per_worker=threads,
            processes=processes,
            host=host,
            protocol=protocol,
            # Without an address both would serve their status pages on all interfaces.
            dashboard_address=_free_address() if dashboard else _LOOPBACK,
            scheduler_kwargs={"dashboard": dashboard},
            worker_dashboard_address=None if processes else _LOOPBACK,
            preload=[
                *dask.config.get("distributed.worker.preload"),
                *([_UNINTERRUPTED] if processes else []),
            ],
            silence_logs=logging.CRITICAL,  # errors reach whoever waits for the result
        )


def dashboard_link(client: Client) -> str:
    """Where a browser finds the dashboard of a client's cluster; "" when it has none.

    Of a `local_cluster` that is the loopback address: Dask would name an outer one there.
    """
    link: str = client.dashboard_link or ""
    if link and client.scheduler is not None and client.scheduler.address.startswith("inproc"):
        parts = urlsplit(link)
        return urlunsplit(parts._replace(netloc=f"127.0.0.1:{parts.port}"))
    return link


def _free_address() -> str:
    """The usual address of a dashboard, or one with any port when that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _DASHBOARD_PORT))
        except OSError:
            return _LOOPBACK
    return f"127.0.0.1:{_DASHBOARD_PORT}"
