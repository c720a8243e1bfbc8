"""Training: settings, checkpoints, learning curves, configuration files, progress."""

from znn_dask.training.checkpoint import (
    CheckpointError,
    CheckpointInfo,
    CheckpointState,
    best,
    latest,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from znn_dask.training.curve import LearningCurve
from znn_dask.training.optimizer import SGD

__all__ = [
    "SGD",
    "CheckpointError",
    "CheckpointInfo",
    "CheckpointState",
    "LearningCurve",
    "best",
    "latest",
    "list_checkpoints",
    "load_checkpoint",
    "save_checkpoint",
]
