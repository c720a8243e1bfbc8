"""Gantt charts of plans and of what an engine did."""

import statistics
from collections.abc import Iterable

from matplotlib.figure import Figure

from znn_dask.report.charts import schedule_gantt
from znn_dask.taskgraph import Plan
from znn_dask.taskgraph.engine import Span

_LEAST_VISIBLE = 1 / 400  # of the width: shorter bars are only noise
_WORDS = {
    "kernel_gradient": "kernel gradient",
    "kernel_spectrum": "kernel FFT",
    "bias_gradient": "bias gradient",
    "bias_update": "bias update",
}


def span_gantt(spans: Iterable[Span], *, title: str = "") -> Figure:
    """Gantt chart of jobs, simulated or from an engine's `timeline`."""
    return schedule_gantt(
        (
            (span.thread, span.start, span.end, _name(span), _kind(span))
            for span in sorted(spans, key=lambda span: span.start)
        ),
        title=title,
    )


def middle(spans: Iterable[Span], seconds: float) -> list[Span]:
    """The jobs of that many seconds from the middle of a timeline, those that can be seen."""
    timeline = list(spans)
    if not timeline:
        return []
    begin = statistics.median(span.start for span in timeline) - seconds / 2
    return [
        span
        for span in timeline
        if span.start >= begin
        and span.end <= begin + seconds
        and span.end - span.start > seconds * _LEAST_VISIBLE
    ]


def plan_gantt(plan: Plan, *, title: str = "") -> Figure:
    """Gantt chart of the schedule that a plan simulated."""
    return span_gantt(plan.schedule.spans, title=title)


def _name(span: Span) -> str:
    kind, layer, _ = span.name
    return f"{_WORDS.get(kind, kind)} {layer}".strip()


def _kind(span: Span) -> str:
    return "forced" if span.forced else f"type-{span.type}"
