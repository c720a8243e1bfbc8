"""Gantt charts of plans and of what an engine did."""

import statistics
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from znn_dask.report.gantt import Chart, chart
from znn_dask.taskgraph.distribution import Distribution
from znn_dask.taskgraph.explain import seconds
from znn_dask.taskgraph.timeline import Span

FORMATS = (".svg", ".png", ".html")
_FIRST = 1  # the step with which the chart of a plan begins
_STEPS = 1.3  # that it shows


def span_gantt(spans: Iterable[Span], *, title: str = "", note: str = "") -> Chart:
    """Gantt chart of jobs, from an engine's `timeline`."""
    return chart(spans, title=title, note=note)


def plan_gantt(planned: Distribution, *, title: str = "") -> Chart:
    """Gantt chart of a steady step, and the next one's beginning, on the busiest worker."""
    schedule = planned.schedule
    begin = schedule.starts[_FIRST]
    length = _STEPS * schedule.step_seconds
    note = (
        f"{schedule.threads} threads, {schedule.efficiency:.0%} busy; a step takes "
        f"{seconds(schedule.step_seconds)}: {seconds(schedule.work)} of work, critical path "
        f"{seconds(schedule.critical_path)}; {planned.plan.basis}"
    )
    drawn = chart(schedule.spans, title=title, note=note, window=(begin, begin + length))
    path_binds = schedule.bound > schedule.work / schedule.threads
    reason = "critical path" if path_binds else "work / threads"
    rulers = (
        (f"lower bound {seconds(schedule.bound)} ({reason})", 0.0, schedule.bound),
        (f"a step {seconds(schedule.step_seconds)}", 0.0, schedule.step_seconds),
    )
    return replace(drawn, rulers=rulers)


def middle(spans: Iterable[Span], seconds: float) -> list[Span]:
    """The jobs of that many seconds from the middle of a timeline."""
    timeline = list(spans)
    if not timeline:
        return []
    begin = statistics.median(span.start for span in timeline) - seconds / 2
    return [s for s in timeline if s.start >= begin and s.end <= begin + seconds]


def check_format(path: Path) -> None:
    """Raise ValueError unless `path` ends in one of `FORMATS`."""
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"{path} ends in {ending!r}; a schedule is drawn as {', '.join(FORMATS)}")


def save_gantt(drawn: Chart, path: Path) -> None:
    """Write a chart in the format that the ending of `path` names, one of `FORMATS`.

    Raises ValueError for another ending.
    """
    check_format(path)
    ending = path.suffix.lower()
    if ending == ".png":
        from znn_dask.report.charts import figure
        from znn_dask.report.pictures import save

        save(figure(drawn), path)
    else:
        from znn_dask.report.gantt_svg import html, svg

        path.write_text((svg if ending == ".svg" else html)(drawn), encoding="utf-8")
