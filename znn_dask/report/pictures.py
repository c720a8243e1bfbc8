"""Figures drawn without pyplot: no global state, no display, safe in threads."""

import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from znn_dask.report.colours import grey, matched_slots, overlay

INK = "#1f2933"
MUTED = "#6b7785"
GRID = "#e3e8ee"
# Okabe and Ito's colours, which differ for colour-blind readers too
BLUE, ORANGE, VERMILION = "#0072B2", "#E69F00", "#D55E00"
KINDS = {
    "type-1": (BLUE, "", "type-1: the next result needs it"),
    "type-2": (ORANGE, "", "type-2: fills the gaps"),
    "forced": (VERMILION, "////", "forced: type-2 run at once for a type-1"),
}


class Span(NamedTuple):
    """One task of a schedule; times in seconds, kind one of "type-1", "type-2", "forced"."""

    thread: int
    start: float
    end: float
    name: str
    kind: str


def new_figure(width: float, height: float) -> Figure:
    """Empty figure of that size in inches, with its own Agg canvas."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
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


def _plain(ax: Any) -> None:
    """Axes without a box, with a light grid behind the data."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(GRID)
    ax.tick_params(colors=MUTED, labelsize=9, length=0)
    ax.grid(color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)


def _smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Centred running mean of finite values, with a shorter window at the ends."""
    kernel = np.ones(window)
    weight = np.convolve(np.ones(len(values)), kernel, mode="same")
    result: np.ndarray = np.convolve(values, kernel, mode="same") / weight
    return result


def learning_curve(
    steps: Sequence[float] | np.ndarray,
    train: Sequence[float] | np.ndarray,
    validation: Sequence[float] | np.ndarray | None = None,
    *,
    quantity: str = "loss",
    title: str = "",
) -> Figure:
    """Training and validation loss against the step, each (n,).

    NaN marks steps without that value, so validation may be sparse. A long training curve is
    drawn faint under its running mean.
    """
    steps, train = np.asarray(steps, float), np.asarray(train, float)
    if steps.shape != train.shape:
        raise ValueError(f"{len(steps)} steps but {len(train)} training values; give one per step")
    figure = new_figure(8.5, 3.9)
    ax = figure.subplots()
    known = np.isfinite(train)
    x, y = steps[known], train[known]
    window = max(1, len(y) // 40)
    if window > 2:
        ax.plot(x, y, color=BLUE, alpha=0.22, linewidth=0.8)
    smooth = _smoothed(y, window if window > 2 else 1) if len(y) else y
    ax.plot(x, smooth, color=BLUE, linewidth=2, label="training")
    if validation is not None:
        values = np.asarray(validation, float)
        if values.shape != steps.shape:
            raise ValueError(
                f"{len(steps)} steps but {len(values)} validation values; "
                "give one per step, NaN where there is none"
            )
        known = np.isfinite(values)
        ax.plot(
            steps[known],
            values[known],
            color=VERMILION,
            linewidth=1.6,
            marker="o",
            markersize=5,
            markeredgecolor="white",
            label="validation",
        )
        if known.any():
            best = int(np.nanargmin(values))
            ax.plot(
                steps[best],
                values[best],
                marker="o",
                markersize=11,
                markerfacecolor="none",
                markeredgecolor=VERMILION,
                markeredgewidth=1.4,
            )
            ax.annotate(
                f"best {values[best]:.4g}",
                (steps[best], values[best]),
                xytext=(0, 11),
                textcoords="offset points",
                ha="center",
                fontsize=9,
                color=VERMILION,
            )
    _plain(ax)
    ax.set_xlabel("step", color=MUTED, fontsize=10)
    ax.set_ylabel(quantity, color=MUTED, fontsize=10)
    ax.legend(frameon=False, fontsize=10, labelcolor=INK)
    ax.margins(x=0.01)
    if title:
        ax.set_title(title, fontsize=12, color=INK, loc="left", fontweight="bold")
    return figure


def _unit(seconds: float) -> tuple[float, str]:
    """(factor, name) of the unit in which a time of that length reads well."""
    if seconds < 1e-3:
        return 1e6, "µs"
    return (1e3, "ms") if seconds < 1 else (1.0, "s")


def schedule_gantt(
    tasks: Iterable[tuple[int, float, float, str, str]], *, title: str = ""
) -> Figure:
    """Gantt chart of (thread, start, end, name, kind), times in seconds.

    Kinds are "type-1", "type-2" and "forced". Beside every thread stands the share of the
    makespan in which it works.
    """
    spans = [Span(*task) for task in tasks]
    unknown = sorted({s.kind for s in spans} - KINDS.keys())
    if unknown:
        raise ValueError(f"task kind {unknown[0]!r} is unknown; use one of {', '.join(KINDS)}")
    threads = sorted({s.thread for s in spans})
    begin = min((s.start for s in spans), default=0.0)
    length = max((s.end for s in spans), default=1.0) - begin or 1.0
    factor, unit = _unit(length)
    figure = new_figure(11, 1.5 + 0.55 * max(1, len(threads)))
    ax = figure.subplots()
    for row, thread in enumerate(threads):
        own = [s for s in spans if s.thread == thread]
        for kind, (colour, hatch, _) in KINDS.items():
            bars = [
                ((s.start - begin) * factor, (s.end - s.start) * factor)
                for s in own
                if s.kind == kind
            ]
            ax.broken_barh(
                bars,
                (row - 0.38, 0.76),
                facecolor=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.6,
            )
        for s in own:
            _name_bar(ax, s, row, begin, length, factor)
        busy = sum(s.end - s.start for s in own) / length
        ax.text(length * factor * 1.008, row, f"{busy:.0%}", va="center", fontsize=9, color=MUTED)
    _plain(ax)
    ax.grid(visible=False, axis="y")
    ax.set_yticks(range(len(threads)), [f"thread {t}" for t in threads])
    ax.set_ylim(len(threads) - 0.45, -0.55)
    ax.set_xlim(0, length * factor * 1.06)
    ax.set_xlabel(
        f"time ({unit}); on the right, share of the time in which the thread works",
        color=MUTED,
        fontsize=10,
    )
    present = {s.kind for s in spans}
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=label)
        for kind, (colour, hatch, label) in KINDS.items()
        if kind in present
    ]
    figure.legend(
        handles=handles,
        loc="outside upper right",
        ncols=3,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    if title:
        ax.set_title(title, fontsize=12, color=INK, loc="left", fontweight="bold")
    return figure


def _name_bar(ax: Any, span: Span, row: int, begin: float, length: float, factor: float) -> None:
    """Write the task's name into its bar where it fits."""
    room = int((span.end - span.start) / length * 132)
    if room < 4:
        return
    text = span.name if len(span.name) <= room else span.name[: room - 1] + "…"
    middle = ((span.start + span.end) / 2 - begin) * factor
    colour = "black" if span.kind == "type-2" else "white"
    backing = {"facecolor": VERMILION, "edgecolor": "none", "pad": 1.2}
    ax.text(
        middle,
        row,
        text,
        ha="center",
        va="center",
        fontsize=7.5,
        color=colour,
        clip_on=True,
        bbox=backing if span.kind == "forced" else None,
    )
