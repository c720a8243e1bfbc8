"""The pictures of the page: curve, layers, blocks, workers. Each has a `root` and an `update`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.core.properties import value
from bokeh.models import (
    ColumnDataSource,
    FactorRange,
    HoverTool,
    LabelSet,
    NumeralTickFormatter,
    Range1d,
)
from bokeh.plotting import figure

from znn_dask.dashboard import style
from znn_dask.dashboard.mosaic import mosaic
from znn_dask.dashboard.thinning import smooth
from znn_dask.report.colours import GRID, INK, MUTED

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_MAP_WIDTH, _MAP_HEIGHT = 560, 230  # pixels
_HALF_CELL = 0.46  # of a cell that is 1 wide
_ROW, _FRAME = 24, 52  # pixels: of a bar, and of what is around them
_MOST_ROWS = 40
_SMOOTHED = 40  # part of a training curve that a mean reaches to either side


class CurveChart:
    """Loss over updates, of training and validation."""

    def __init__(self) -> None:
        self._training = ColumnDataSource({"step": [], "loss": [], "smooth": []})
        self._validation = ColumnDataSource({"step": [], "loss": []})
        # Ranges of our own: Bokeh would complain on the console that nothing has none.
        self._x, self._y = Range1d(0, 1), Range1d(0, 1)
        labels = {"x_axis_label": "updates", "y_axis_label": "loss per voxel"}
        self.root = _figure(height=270, x_range=self._x, y_range=self._y, **labels)
        self.root.line(*("step", "loss"), source=self._training, line_color=style.RAW, line_width=1)
        line = self.root.line(
            *("step", "smooth"), source=self._training, line_color=style.TRAINING, line_width=2
        )
        self.root.line(
            *("step", "loss"), source=self._validation, line_color=style.VALIDATION, line_width=2
        )
        dots = self.root.scatter(
            *("step", "loss"), source=self._validation, size=6, color=style.VALIDATION
        )
        for renderer, name, column in (
            (line, "training", "smooth"),
            (dots, "validation", "loss"),
        ):
            tips = [(name, f"@{column}{{0.00000}}"), ("update", "@step{0,0}")]
            self.root.add_tools(HoverTool(renderers=[renderer], tooltips=tips))
        self.root.xaxis.formatter = NumeralTickFormatter(format="0,0")

    def update(self, curve: Mapping[str, Any]) -> None:
        """Show `{"training": points, "validation": points}`."""
        training = curve["training"]
        reach = len(training["loss"]) // _SMOOTHED
        self._training.data = {**training, "smooth": smooth(training["loss"], reach)}
        self._validation.data = dict(curve["validation"])
        both = (training, curve["validation"])
        self._x.update(**_span(step for points in both for step in points["step"]))
        self._y.update(**_span(loss for points in both for loss in points["loss"]))


class BarChart:
    """Rows of bars, each of several parts.

    Parameters
    ----------
    colours
        Part -> its colour.
    unit
        Of the axis.
    form
        Of the numbers, as Bokeh writes it.
    most
        Where the axis ends; where the longest bar does when not given.
    """

    def __init__(
        self,
        colours: Mapping[str, str],
        unit: str,
        form: str,
        *,
        most: float | None = None,
        scale: float = 1.0,
    ) -> None:
        self._parts, self._scale = tuple(colours), scale
        self._source = ColumnDataSource({"row": [], **{part: [] for part in colours}})
        self._rows = FactorRange(factors=[])
        self._most, self._x = most, Range1d(0, most or 1)
        ranges = {"x_range": self._x, "y_range": self._rows}
        self.root = _figure(height=_FRAME, x_axis_label=unit, **ranges)
        bars = self.root.hbar_stack(
            self._parts,
            y="row",
            height=0.72,
            color=list(colours.values()),
            line_color="white",
            line_width=0.5,
            source=self._source,
        )
        for part, bar in zip(self._parts, bars, strict=True):
            tips = [("", "@row"), (part, f"@{{{part}}}{{{form}}}")]
            self.root.add_tools(HoverTool(renderers=[bar], tooltips=tips))
        if "%" in form:
            self.root.xaxis.formatter = NumeralTickFormatter(format=form)
        self.root.ygrid.grid_line_color = None
        self.root.yaxis.axis_line_color = None
        self.root.yaxis.major_label_text_color = INK

    def update(self, rows: Sequence[tuple[str, Mapping[str, float]]]) -> None:
        """Show (name, part -> value) of each row, from the top."""
        shown = list(rows)[:_MOST_ROWS][::-1]
        names = [name for name, _ in shown]
        if names != list(self._rows.factors):
            self._rows.factors = names
            self.root.height = _FRAME + _ROW * max(1, len(names))
        if self._most is None:
            longest = max((self._scale * sum(parts.values()) for _, parts in shown), default=0)
            self._x.end = 1.03 * longest or 1
        self._source.data = {
            "row": names,
            **{p: [self._scale * parts.get(p, 0.0) for _, parts in shown] for p in self._parts},
        }


class BlockChart:
    """The blocks of a prediction, slice by slice."""

    def __init__(self) -> None:
        columns = ("left", "right", "top", "bottom", "colour", "state", "where")
        self._cells = ColumnDataSource({name: [] for name in columns})
        self._names = ColumnDataSource({"x": [], "y": [], "text": []})
        self.root = _figure(height=120, x_range=Range1d(0, 1), y_range=Range1d(1, 0))
        self.root.sizing_mode = None
        cells = self.root.quad(
            *("left", "right", "top", "bottom"),
            source=self._cells,
            fill_color="colour",
            line_color=None,
        )
        self.root.add_layout(
            LabelSet(
                source=self._names,
                text_font=value(FONT),
                text_font_size="11px",
                text_color=MUTED,
                text_baseline="bottom",
                y_offset=1,
            )
        )
        tips = [("block z, y, x", "@where"), ("", "@state")]
        self.root.add_tools(HoverTool(renderers=[cells], tooltips=tips))
        self.root.axis.visible = False
        self.root.grid.visible = False

    def update(self, job: Mapping[str, Any]) -> None:
        """Show the blocks of a prediction."""
        done = np.zeros(job["blocks"], bool)
        for first, last in job["done_ranges"]:
            done[first : last + 1] = True
        found = mosaic(
            tuple(job["grid"]), job["shape"][0], job["block"][0], done, list(job["running"])
        )
        counts = list(zip(found.total, found.done, found.running, strict=True))
        self._cells.data = {
            "left": [x - _HALF_CELL for x in found.x],
            "right": [x + _HALF_CELL for x in found.x],
            "top": [y - _HALF_CELL for y in found.y],
            "bottom": [y + _HALF_CELL for y in found.y],
            "colour": [cell_colour(*count) for count in counts],
            "state": [_state(*count) for count in counts],
            "where": found.where,
        }
        x, y, text = zip(*found.slices, strict=True)
        self._names.data = {"x": x, "y": y, "text": text}
        scale = max(3.0, min(22.0, _MAP_WIDTH / found.width, _MAP_HEIGHT / found.height))
        self.root.x_range.update(start=-0.3, end=found.width + 0.3)
        self.root.y_range.update(start=found.height, end=-18 / scale)
        self.root.update(
            width=max(120, round(scale * (found.width + 0.6))),
            height=round(scale * found.height + 18),
        )


def cell_colour(total: int, done: int, running: int) -> str:
    """Of a cell that stands for so many blocks."""
    if running:
        return style.RUNNING
    share = done / total
    low, high = (
        [int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (style.MISSING, style.DONE)
    )
    # A little done is seen at once.
    strength = 0.0 if not done else 0.2 + 0.8 * share
    mixed = (round(a + strength * (b - a)) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _state(total: int, done: int, running: int) -> str:
    if total == 1:
        return "running" if running else "done" if done else "missing"
    under_way = f", {running} running" if running else ""
    return f"{done} of {total} done{under_way}"


def _span(values: Iterable[float]) -> dict[str, float]:
    """From the least to the largest of the values that are finite, and a little more."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0), max(finite, default=1)
    room = 0.04 * (high - low) or 0.5
    return {"start": low - room, "end": high + room}


def _figure(**options: Any) -> Any:
    drawn = figure(
        toolbar_location=None,
        tools="",
        sizing_mode="stretch_width",
        min_border_left=0,
        min_border_right=8,
        outline_line_color=None,
        background_fill_color=None,
        border_fill_color=None,
        **options,
    )
    for axis in drawn.axis:
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "12px"
        axis.axis_label_text_color = axis.major_label_text_color = MUTED
        axis.axis_line_color = GRID
        axis.major_tick_line_color = axis.minor_tick_line_color = None
    drawn.grid.grid_line_color = GRID
    return drawn
