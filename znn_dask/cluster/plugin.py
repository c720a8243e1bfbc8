"""What every worker gets: an engine with its threads, and one BLAS thread per engine thread.

And what it tells of itself: the fingerprint of its libraries, with every heartbeat, so that whoever
asks the scheduler for the workers knows it without a word to a worker that may not answer; and what
its engines do (`figures.py`).
"""

from typing import Any

from distributed import Client, Worker, WorkerPlugin
from threadpoolctl import threadpool_limits

from znn_dask.cluster.figures import tell
from znn_dask.cluster.fingerprint import library_fingerprint
from znn_dask.taskgraph.engine import process_engine

FINGERPRINT = "znn-fingerprint"
"""Name of the worker's metric."""


class EnginePlugin(WorkerPlugin):
    """Starts the worker's engine and stops it with the worker."""

    name = "znn-engine"
    idempotent = True

    async def setup(self, worker: Worker) -> None:
        threadpool_limits(1)  # workers inside this process would use a BLAS thread per core
        self._threads = worker.state.nthreads
        process_engine(self._threads)
        libraries = library_fingerprint()
        worker.metrics[FINGERPRINT] = lambda worker: libraries
        tell(worker)
        await worker.heartbeat()  # known at once, not some half second later

    def teardown(self, worker: Worker) -> None:
        process_engine().shrink(self._threads)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def install(client: Client) -> None:
    """Give every worker of the cluster, present and future, an engine."""
    client.register_plugin(EnginePlugin())
