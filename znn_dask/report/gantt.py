"""What a Gantt chart of a schedule shows, before it is drawn: bars, names, steps and the bound.

`gantt_svg.py` draws it as SVG or HTML, `charts.py` with matplotlib.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from znn_dask.report.colours import BLUE, ORANGE, VERMILION
from znn_dask.taskgraph.timeline import Span

COLOURS = {"type-1": BLUE, "type-2": ORANGE, "forced": VERMILION}
MEANINGS = {
    "type-1": "type 1: the next task waits for it",
    "type-2": "type 2: fills the gaps",
    "forced": "forced: type 2, run at once because a type-1 task needs it",
}
_WORDS = {
    "kernel_gradient": "gradient",
    "kernel_spectrum": "FFT",
    "bias_gradient": "bias gradient",
    "bias_update": "bias update",
}
_RESOLUTION = 1000  # bars shorter than the chart's length by this factor are merged


@dataclass(frozen=True)
class Bar:
    """Tasks in a row on one lane; times in seconds from the chart's left side.

    `kind` is "type-1", "type-2" or "forced", `what` names kind and layer of task.
    """

    lane: int
    start: float
    end: float
    kind: str
    what: str
    step: int
    block: int
    tasks: int = 1


@dataclass(frozen=True)
class Chart:
    """A Gantt chart.

    Attributes
    ----------
    title, note
        Lines above it.
    length
        Seconds from left to right.
    bars
        What the lanes hold.
    names
        Bars that carry a name: neighbours of the same name as one.
    busy
        Share of the length in which each lane works.
    steps
        (number, seconds) of where the type-1 tasks of each step begin.
    rulers
        (text, seconds, seconds): spans to compare by eye.
    """

    title: str
    note: str
    length: float
    bars: tuple[Bar, ...]
    names: tuple[Bar, ...]
    busy: tuple[float, ...]
    steps: tuple[tuple[int, float], ...]
    rulers: tuple[tuple[str, float, float], ...] = ()

    @property
    def kinds(self) -> list[str]:
        """Those of its bars, in the order of the legend."""
        return [kind for kind in COLOURS if any(bar.kind == kind for bar in self.bars)]

    def _repr_html_(self) -> str | None:
        from znn_dask.display.plan import chart_html

        return chart_html(self)


def chart(
    spans: Iterable[Span],
    *,
    title: str = "",
    note: str = "",
    window: tuple[float, float] | None = None,
) -> Chart:
    """The chart of jobs, simulated or from an engine's timeline.

    `window`: (from, to) of the spans' clock; all of them when not given.
    """
    ordered = sorted(spans, key=lambda span: (span.thread, span.start))
    begin = min((span.start for span in ordered), default=0.0)
    end = max((span.end for span in ordered), default=1.0)
    begin, end = window or (begin, end)
    length = (end - begin) or 1.0
    threads = sorted({span.thread for span in ordered})
    bars: list[Bar] = []
    names: list[Bar] = []
    busy: list[float] = []
    for lane, thread in enumerate(threads):
        own = [
            bar
            for span in ordered
            if span.thread == thread and (bar := _bar(span, lane, begin, end)).end > bar.start
        ]
        bars += _merged(own, longest=length / _RESOLUTION)
        names += _merged(own, longest=length)
        busy.append(sum(bar.end - bar.start for bar in own) / length)
    starts: dict[int, float] = {}
    for span in ordered:
        if span.type == 1:
            starts[span.step] = min(starts.get(span.step, span.start), span.start)
    steps = tuple((n, at - begin) for n, at in sorted(starts.items()) if begin <= at < end)
    return Chart(title, note, length, tuple(bars), tuple(names), tuple(busy), steps)


def short_name(what: str, letters: int) -> str:
    """A bar's name in so many letters: as it is, or the layer with an arrow for its direction."""
    kind, _, layer = what.partition(" ")
    arrow = {"forward": "→", "backward": "←"}.get(kind, "")
    return next((text for text in (what, arrow + layer) if text and len(text) <= letters), "")


def unit(seconds: float) -> tuple[float, str]:
    """(factor, name) of the unit in which a time of that length reads well."""
    if seconds < 1e-3:
        return 1e6, "µs"
    return (1e3, "ms") if seconds < 1 else (1.0, "s")


def _bar(span: Span, lane: int, begin: float, end: float) -> Bar:
    kind, layer, block = span.name
    what = kind if kind in ("load", "loss") else f"{_WORDS.get(kind, kind)} {layer}"
    return Bar(
        lane,
        max(span.start, begin) - begin,
        min(span.end, end) - begin,
        "forced" if span.forced else f"type-{span.type}",
        what,
        span.step,
        block,
    )


def _merged(bars: Sequence[Bar], longest: float) -> list[Bar]:
    """Neighbours of one name as one bar, if none of them is longer than `longest`."""
    merged = list(bars[:1])
    for before, bar in pairwise(bars):
        last = merged[-1]
        same = (last.what, last.kind, last.step) == (bar.what, bar.kind, bar.step)
        short = max(before.end - before.start, bar.end - bar.start) <= longest
        if same and short and bar.start - last.end <= longest / 50:
            merged[-1] = replace(last, end=bar.end, tasks=last.tasks + 1)
        else:
            merged.append(bar)
    return merged
