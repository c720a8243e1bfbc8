"""Schedules as figures."""

from collections.abc import Iterable
from typing import Any, NamedTuple

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
