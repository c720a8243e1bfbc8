"""What every worker gets: an engine with its threads, and one BLAS thread per engine thread."""

from typing import Any

from distributed import Client, Worker, WorkerPlugin
from threadpoolctl import threadpool_limits

from znn_dask.taskgraph.engine import process_engine


class EnginePlugin(WorkerPlugin):
    """Starts the worker's engine and stops it with the worker."""

    name = "znn-engine"
    idempotent = True

    def setup(self, worker: Worker) -> None:
        threadpool_limits(1)  # workers inside this process would use a BLAS thread per core
        self._threads = worker.state.nthreads
        process_engine(self._threads)

    def teardown(self, worker: Worker) -> None:
        process_engine().shrink(self._threads)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def install(client: Client) -> None:
    """Give every worker of the cluster, present and future, an engine."""
    client.register_plugin(EnginePlugin())
