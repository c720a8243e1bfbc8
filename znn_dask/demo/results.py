"""All that the demo found out, for its report page."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from znn_dask.data.metadata import VoxelSize
from znn_dask.demo.setup import Split
from znn_dask.segmentation.scores import Scores
from znn_dask.segmentation.segment import SegmentationParameters
from znn_dask.taskgraph.engine import Span
from znn_dask.training.trainer import Trainer


@dataclass(frozen=True)
class Results:
    """Arrays are those of the held-out box, (z, y, x).

    boundary: probability, float32. objects, raw: ids of the network's objects and of those of a
    watershed of the image alone. timeline: last jobs of the training's engine. seconds: by stage.
    """

    folder: Path
    volume: str
    synthetic: bool
    parts: Split
    voxel_size: VoxelSize
    image: np.ndarray
    truth: np.ndarray
    boundary: np.ndarray
    objects: np.ndarray
    raw: np.ndarray
    trainer: Trainer
    timeline: tuple[Span, ...]
    parameters: SegmentationParameters
    scores: Scores
    raw_scores: Scores
    seconds: Mapping[str, float]

    @property
    def update_seconds(self) -> float:
        """Median seconds per update while training went on, validations left out."""
        seconds = self.trainer.curve.train.column("seconds")
        steps = self.trainer.curve.train.column("step")
        stamps, first = np.unique(seconds, return_index=True)  # steps arrive in groups
        if len(stamps) < 3:
            return float(seconds[-1] / len(seconds))
        per_update = np.diff(stamps) / np.diff(steps[first])
        return float(np.median(per_update))
