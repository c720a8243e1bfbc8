"""Learning curves and schedules as figures."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from znn_dask.report.pictures import GRID, INK, MUTED, new_figure

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
