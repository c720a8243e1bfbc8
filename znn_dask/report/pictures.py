"""Slices of volumes, drawn without pyplot: no global state, no display, safe in threads."""

import io
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from znn_dask.report.colours import GRID, INK, MUTED, grey, matched_slots, overlay


class ShownFigure(Figure):
    """A figure that shows itself in notebooks without pyplot."""

    def _repr_jpeg_(self) -> bytes:
        jpeg = io.BytesIO()  # a fifth of a PNG where there is tissue to be seen
        self.savefig(jpeg, format="jpeg", dpi=80, pil_kwargs={"quality": 85})
        return jpeg.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Empty figure of that size in inches, with its own Agg canvas."""
    figure = ShownFigure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path, dpi: int = 150) -> Path:
    """Write the figure as PNG; the file appears complete or not at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    figure.savefig(temporary, format="png", dpi=dpi)
    os.replace(temporary, path)
    return path


def _planes(shape: tuple[int, ...], position: Sequence[int] | None, views: int) -> list[Any]:
    """(title, index, row axis, column axis) of the slices to show."""
    z, y, x = position if position is not None else [n // 2 for n in shape]
    every = slice(None)
    planes = [
        (f"z = {z}", (z, every, every), 1, 2),
        (f"y = {y}", (every, y, every), 0, 2),
        (f"x = {x}", (every, every, x), 0, 1),
    ]
    return planes[:views]


def slice_panels(
    image: np.ndarray,
    truth: np.ndarray | None = None,
    probability: np.ndarray | None = None,
    objects: np.ndarray | None = None,
    *,
    position: Sequence[int] | None = None,
    views: int = 3,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    title: str = "",
) -> Figure:
    """Image, truth, probability and objects side by side, one row per view.

    All are (z, y, x) of one shape; what is None is left out. position: (z, y, x) of the slices,
    default the middle; views: 1 for the z slice alone, 3 for the orthogonal slices (1 is drawn
    for a volume of one slice). voxel_size: (z, y, x), sets the aspect. Objects take the colour
    of the label they cover most, so splits and mergers stand out.
    """
    named = {"truth": truth, "probability": probability, "objects": objects}
    for name, values in named.items():
        if values is not None and values.shape != image.shape:
            raise ValueError(
                f"{name} has shape {values.shape} and the image {image.shape}; crop them alike"
            )
    planes = _planes(image.shape, position, 1 if image.shape[0] == 1 else views)
    columns = ["image", *(name for name, values in named.items() if values is not None)]
    heights = [image.shape[rows] * voxel_size[rows] for _, _, rows, _ in planes]
    widths = [image.shape[cols] * voxel_size[cols] for _, _, _, cols in planes]
    panel = 12.0 / max(3, len(columns))
    relative = [h / w for h, w in zip(heights, widths, strict=True)]
    figure = new_figure(panel * len(columns), panel * sum(relative) + 0.45 + (0.35 if title else 0))
    axes = figure.subplots(len(planes), len(columns), squeeze=False, height_ratios=relative)
    low, high = np.percentile(image, (0.5, 99.5))
    slots = None
    if truth is not None and objects is not None:
        shown = [index for _, index, _, _ in planes]
        slots = matched_slots(
            np.concatenate([objects[i].ravel() for i in shown]),
            np.concatenate([truth[i].ravel() for i in shown]),
        )
    for row, (label, index, rows, cols) in enumerate(planes):
        background = grey(image[index], float(low), float(high))
        aspect = voxel_size[rows] / voxel_size[cols]
        for column, name in enumerate(columns):
            ax = axes[row, column]
            drawn: np.ndarray = background
            style: dict[str, Any] = {}
            if name == "truth" and truth is not None:
                drawn = overlay(background, truth[index])
            elif name == "objects" and objects is not None:
                drawn = overlay(background, objects[index], slots)
            elif name == "probability" and probability is not None:
                drawn, style = probability[index], {"cmap": "magma", "vmin": 0.0, "vmax": 1.0}
            ax.imshow(drawn, interpolation="nearest", aspect=aspect, **style)
            ax.set_xticks([])
            ax.set_yticks([])
            for spine in ax.spines.values():
                spine.set_color(GRID)
            if row == 0:
                heading = "boundary probability" if name == "probability" else name
                ax.set_title(heading, fontsize=11, color=INK, pad=6)
            if column == 0:
                ax.set_ylabel(label, fontsize=10, color=MUTED)
    if title:
        figure.suptitle(title, fontsize=13, color=INK, fontweight="bold")
    return figure
