"""`train --timeline`: a picture of what the threads did."""

from pathlib import Path

import numpy as np
from distributed import Client

from znn_dask.cluster.timeline import drawable, timeline
from znn_dask.report.schedule import middle, save_gantt, span_gantt
from znn_dask.training.trainer import Trainer

_UPDATES_DRAWN = 4
_RECENT = 100  # updates whose median time says how long one takes


def draw_timeline(client: Client, trainer: Trainer, path: Path) -> None:
    """Draw the jobs of a few updates, out of those that the workers' engines remember."""
    seconds = trainer.curve.train.column("seconds")[-_RECENT:]
    steps = max(1, len(seconds) - 1)
    update = float(np.ptp(seconds)) / steps or trainer.plan.update_seconds
    drawn = middle(drawable(timeline(client)), _UPDATES_DRAWN * update)
    save_gantt(span_gantt(drawn, title=f"{_UPDATES_DRAWN} updates"), path)
