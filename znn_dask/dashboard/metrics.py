"""Prometheus metrics of trainings, predictions and workers, beside Dask's own at `/metrics`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from weakref import WeakSet

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric

from znn_dask.dashboard.plugin import BoardPlugin

_JOB = ["id", "title"]
_TRAINING = {
    "step": ("znn_training_updates", "Updates made"),
    "updates_per_second": ("znn_training_updates_per_second", "Updates a second"),
    "voxels_per_second": ("znn_training_voxels_per_second", "Output voxels a second"),
    "loss": ("znn_training_loss", "Loss per output voxel, over the last updates"),
    "validation_loss": ("znn_training_validation_loss", "Loss of the last validation"),
    "running": ("znn_training_running", "1 while it runs"),
}
_PREDICTION = {
    "blocks": ("znn_prediction_blocks", "Blocks in all"),
    "done": ("znn_prediction_blocks_done", "Blocks that are done"),
    "voxels_per_second": ("znn_prediction_voxels_per_second", "Output voxels a second"),
    "running": ("znn_prediction_running", "1 while it runs"),
}


class Collector:
    """Reads the boards of this process's schedulers whenever Prometheus asks."""

    def __init__(self) -> None:
        self.plugins: WeakSet[BoardPlugin] = WeakSet()

    def describe(self) -> list[Metric]:
        return []  # nothing is computed only to register

    def collect(self) -> Iterator[Metric]:
        views = [plugin.view() for plugin in list(self.plugins)]
        jobs = ((_TRAINING, "trainings"), (_PREDICTION, "predictions"))
        for metrics, kind in jobs:
            rows = [
                {**job, "running": int(job["state"] == "running")} for v in views for job in v[kind]
            ]
            for key, (name, text) in metrics.items():
                yield _gauge(name, text, _JOB, [((r["id"], r["title"]), r[key]) for r in rows])
        yield from _worker_metrics([worker for v in views for worker in v["workers"]])


def _worker_metrics(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    shares = [
        ((worker["workers"][0], what), share)
        for worker in workers
        for what, share in (worker["shares"] or {}).items()
    ]
    name, text = "znn_worker_time_share", "Share of the time of the engine's threads, 0 to 1"
    yield _gauge(name, text, ["worker", "type"], shares)
    spectra = [
        ((worker["workers"][0], what), size)
        for worker in workers
        for what, size in worker["spectra_bytes"].items()
    ]
    name, text = "znn_worker_spectra_bytes", "Bytes of spectra that are kept"
    yield _gauge(name, text, ["worker", "of"], spectra)


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[tuple[Any, ...], Any]]
) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for label, value in values:
        if value is not None:
            gauge.add_metric([str(part) for part in label], float(value))
    return gauge


_collector: Collector | None = None


def expose(plugin: BoardPlugin) -> None:
    """Let `/metrics` of this process have the figures of `plugin` as long as it lives."""
    global _collector
    if _collector is None:
        _collector = Collector()
        REGISTRY.register(_collector)
    _collector.plugins.add(plugin)
