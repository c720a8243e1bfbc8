"""Schedules as matplotlib figures, for PNG."""

from typing import Any

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from znn_dask.report.gantt import COLOURS, MEANINGS, Bar, Chart, short_name, unit
from znn_dask.report.pictures import GRID, INK, MUTED, new_figure

_LETTERS = 176  # of a bar's name, across the figure
_PALE = 0.72


def figure(chart: Chart) -> Figure:
    """A Gantt chart; beside every lane stands the share of the time in which it works."""
    lanes = len(chart.busy)
    factor, name = unit(chart.length)
    lane_height = max(0.16, min(0.5, 5 / max(lanes, 1)))
    drawn = new_figure(13, 1.9 + 0.22 * len(chart.rulers) + lane_height * lanes)
    ax = drawn.subplots()
    for kind in chart.kinds:
        for odd in (0, 1):
            bars = [bar for bar in chart.bars if bar.kind == kind and bar.step % 2 == odd]
            _draw(ax, bars, kind, factor, 1.0 if odd else _PALE)
    if lanes <= 24:
        for bar in chart.names:
            _name(ax, bar, chart.length, factor)
    for lane, busy in enumerate(chart.busy):
        right = chart.length * factor * 1.006
        ax.text(right, lane, f"{busy:.0%}", va="center", fontsize=8.5, color=MUTED)
    for number, start in chart.steps:
        ax.axvline(start * factor, color=INK, linewidth=1.2, linestyle="--")
        style: dict[str, Any] = {"fontsize": 8.5, "color": INK, "fontweight": "bold"}
        ax.text(start * factor, lanes - 0.42, f" step {number}", va="top", **style)
    _rulers(ax, chart, factor)
    _plain(ax)
    ax.set_yticks(range(lanes), [f"thread {lane}" for lane in range(lanes)])
    above = 0.55 + _ruler_height(lanes) * len(chart.rulers)
    ax.set_ylim(1.03 * lanes - 0.15, -above)
    ax.set_xlim(0, chart.length * factor * 1.04)
    ax.set_xlabel(
        f"time ({name}); on the right, share of it in which the thread works", color=MUTED
    )
    handles = [
        Patch(facecolor=COLOURS[k], hatch=_hatch(k), edgecolor="white", label=MEANINGS[k])
        for k in chart.kinds
    ]
    legend: dict[str, Any] = {"loc": "outside lower center", "ncols": 3, "frameon": False}
    drawn.legend(handles=handles, fontsize=9, labelcolor=INK, **legend)
    if chart.title:
        drawn.suptitle(chart.title, fontsize=12, color=INK, fontweight="bold", x=0.06, ha="left")
    if chart.note:
        ax.set_title(chart.note, fontsize=9, color=MUTED, loc="left")
    return drawn


def _draw(ax: Any, bars: list[Bar], kind: str, factor: float, strength: float) -> None:
    for lane in sorted({bar.lane for bar in bars}):
        ax.broken_barh(
            [(b.start * factor, (b.end - b.start) * factor) for b in bars if b.lane == lane],
            (lane - 0.42, 0.84),
            facecolor=to_rgba(COLOURS[kind], strength),
            hatch=_hatch(kind),
            edgecolor="white",
            linewidth=0.4,
        )


def _hatch(kind: str) -> str:
    return "////" if kind == "forced" else ""


def _name(ax: Any, bar: Bar, length: float, factor: float) -> None:
    text = short_name(bar.what, int((bar.end - bar.start) / length * _LETTERS - 0.6))
    if text:
        colour = "black" if bar.kind == "type-2" else "white"
        middle = (bar.start + bar.end) / 2 * factor
        ax.text(middle, bar.lane, text, ha="center", va="center", fontsize=7.5, color=colour)


def _rulers(ax: Any, chart: Chart, factor: float) -> None:
    apart = _ruler_height(len(chart.busy))
    for i, (text, start, end) in enumerate(chart.rulers):
        y = -0.55 - apart * (len(chart.rulers) - i - 0.5)
        ax.plot([start * factor, end * factor], [y, y], color=INK, linewidth=1.4, marker="|")
        ax.text(end * factor, y, f"  {text}", va="center", fontsize=8.5, color=INK)


def _ruler_height(lanes: int) -> float:
    """In lanes."""
    return 0.6 * (1 + lanes / 16)


def _plain(ax: Any) -> None:
    """Axes without a box, with a light grid behind the data."""
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(GRID)
    ax.tick_params(colors=MUTED, labelsize=9, length=0)
    ax.grid(color=GRID, linewidth=0.8, axis="x")
    ax.set_axisbelow(True)
