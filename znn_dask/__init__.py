"""ZNN on Dask: train and run 3D convolutional networks on microscopy volumes, fast on CPUs.

import znn_dask as znn

client = znn.local_cluster()
volume = znn.open_volume("volume.zarr")
trainer = znn.Trainer(znn.zoo.small3d(), volume, output_size=(16, 16, 16))
trainer.fit(2_000)
znn.predict(trainer.checkpoint, volume.image, "map.zarr")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from znn_dask.cluster.gradients import gradients
    from znn_dask.cluster.local import local_cluster
    from znn_dask.cluster.timeline import timeline
    from znn_dask.data import PatchSampler, Volume, open_array, open_volume
    from znn_dask.data.importing import import_image
    from znn_dask.data.pyramid import build_pyramid
    from znn_dask.data.synthetic import synthetic_volume
    from znn_dask.inference.predict import predict
    from znn_dask.jobs.handle import Job, find_job, list_jobs, submit
    from znn_dask.jobs.prediction import Prediction
    from znn_dask.network import (
        EdgeGroup,
        Network,
        NetworkError,
        NodeGroup,
        parse_znn,
        read_znn,
        write_znn,
        zoo,
    )
    from znn_dask.neurons import mesh, picture, skeletonize, view
    from znn_dask.segmentation import evaluate, segment
    from znn_dask.taskgraph.forward import ForwardPass
    from znn_dask.taskgraph.plan import Plan, plan
    from znn_dask.taskgraph.plan_file import read_plan
    from znn_dask.taskgraph.tuning import tune
    from znn_dask.training.checkpoint import load_checkpoint
    from znn_dask.training.optimizer import SGD
    from znn_dask.training.trainer import Trainer

# Name -> module. Loaded at first use, so that `znn-dask --help` and `info` start at once.
_HOMES = {
    "EdgeGroup": "znn_dask.network",
    "ForwardPass": "znn_dask.taskgraph.forward",
    "Job": "znn_dask.jobs.handle",
    "Network": "znn_dask.network",
    "NetworkError": "znn_dask.network",
    "NodeGroup": "znn_dask.network",
    "PatchSampler": "znn_dask.data",
    "Plan": "znn_dask.taskgraph.plan",
    "Prediction": "znn_dask.jobs.prediction",
    "SGD": "znn_dask.training.optimizer",
    "Trainer": "znn_dask.training.trainer",
    "Volume": "znn_dask.data",
    "build_pyramid": "znn_dask.data.pyramid",
    "evaluate": "znn_dask.segmentation",
    "find_job": "znn_dask.jobs.handle",
    "gradients": "znn_dask.cluster.gradients",
    "import_image": "znn_dask.data.importing",
    "list_jobs": "znn_dask.jobs.handle",
    "load_checkpoint": "znn_dask.training.checkpoint",
    "local_cluster": "znn_dask.cluster.local",
    "mesh": "znn_dask.neurons",
    "open_array": "znn_dask.data",
    "open_volume": "znn_dask.data",
    "parse_znn": "znn_dask.network",
    "picture": "znn_dask.neurons",
    "plan": "znn_dask.taskgraph.plan",
    "predict": "znn_dask.inference.predict",
    "read_plan": "znn_dask.taskgraph.plan_file",
    "read_znn": "znn_dask.network",
    "segment": "znn_dask.segmentation",
    "skeletonize": "znn_dask.neurons",
    "submit": "znn_dask.jobs.handle",
    "synthetic_volume": "znn_dask.data.synthetic",
    "timeline": "znn_dask.cluster.timeline",
    "tune": "znn_dask.taskgraph.tuning",
    "view": "znn_dask.neurons",
    "write_znn": "znn_dask.network",
    "zoo": "znn_dask.network",
}

__all__ = [
    "SGD",
    "EdgeGroup",
    "ForwardPass",
    "Job",
    "Network",
    "NetworkError",
    "NodeGroup",
    "PatchSampler",
    "Plan",
    "Prediction",
    "Trainer",
    "Volume",
    "build_pyramid",
    "evaluate",
    "find_job",
    "gradients",
    "import_image",
    "list_jobs",
    "load_checkpoint",
    "local_cluster",
    "mesh",
    "open_array",
    "open_volume",
    "parse_znn",
    "picture",
    "plan",
    "predict",
    "read_plan",
    "read_znn",
    "segment",
    "skeletonize",
    "submit",
    "synthetic_volume",
    "timeline",
    "tune",
    "view",
    "write_znn",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'znn_dask' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
