"""Gantt charts as SVG, and as HTML pages: every bar tells what it is when pointed at."""

from collections.abc import Iterator
from html import escape
from typing import Final

from znn_dask.report.gantt import COLOURS, MEANINGS, Bar, Chart, short_name, unit

WIDTH: Final = 1240
LEFT: Final = 74
RIGHT: Final = 52
PLOT: Final = WIDTH - LEFT - RIGHT
_CHARACTER: Final = 5.9  # pixels of one letter of a bar's name
_PAGE: Final = (
    "body{margin:24px;font:15px system-ui,sans-serif;color:#1f2933;background:#fff}"
    "svg{max-width:100%;height:auto}"
)


def svg(chart: Chart) -> str:
    """The chart as standalone SVG text."""
    lane = _lane_height(len(chart.busy))
    top = 58 + 20 * bool(chart.note) + 19 * len(chart.rulers)
    bottom = top + lane * len(chart.busy)
    height = bottom + 44
    scale = PLOT / chart.length
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" class="gantt">',
        f"<style>{_style()}</style>",
        _HATCH,
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        *_heading(chart),
        *_time_axis(chart, scale, top, bottom),
        *_lanes(chart, top, lane),
        *(_draw(bar, scale, top, lane) for bar in chart.bars),
        *_names(chart, scale, top, lane),
        *_steps(chart, scale, top, bottom),
        *_rulers(chart, scale, top),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def html(chart: Chart) -> str:
    """The chart as a page in one file."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(chart.title)}</title><style>{_PAGE}</style></head>\n"
        f"<body>\n{svg(chart)}</body></html>\n"
    )


def _lane_height(lanes: int) -> int:
    return next(h for most, h in ((4, 44), (12, 32), (40, 20), (1 << 30, 9)) if lanes <= most)


def _heading(chart: Chart) -> Iterator[str]:
    yield f'<text class="title" x="{LEFT}" y="22">{escape(chart.title)}</text>'
    if chart.note:
        yield f'<text class="note" x="{LEFT}" y="41">{escape(chart.note)}</text>'
    x = LEFT
    y = 36 + 20 * bool(chart.note)
    for kind in chart.kinds:
        yield f'<rect class="{kind}" x="{x}" y="{y}" width="22" height="13"/>'
        if kind == "forced":
            yield f'<rect class="hatch" x="{x}" y="{y}" width="22" height="13"/>'
        yield f'<text class="note" x="{x + 28}" y="{y + 11}">{MEANINGS[kind]}</text>'
        x += 50 + round(6.3 * len(MEANINGS[kind]))
    hint = "paler: even steps · → forward, ← backward"
    yield f'<text class="note" x="{x}" y="{y + 11}">{hint}</text>'


def _time_axis(chart: Chart, scale: float, top: int, bottom: int) -> Iterator[str]:
    factor, name = unit(chart.length)
    tick = _round_tick(chart.length * factor / 9)
    count = int(chart.length * factor / tick)
    for i in range(count + 1):
        x = LEFT + i * tick / factor * scale
        yield f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{bottom + 16}">{i * tick:g}</text>'
    yield f'<text class="lane" x="{LEFT - 14}" y="{bottom + 16}">{name}</text>'
    yield f'<text class="tick" x="{WIDTH - RIGHT / 2}" y="{bottom + 16}">busy</text>'


def _lanes(chart: Chart, top: int, lane: int) -> Iterator[str]:
    every = -(-12 // lane)  # lanes thinner than their names are named now and then
    for i, busy in enumerate(chart.busy):
        if i % every == 0:
            y = top + (i + 0.5) * lane + 4
            yield f'<text class="lane" x="{LEFT - 8}" y="{y:.1f}">thread {i}</text>'
            yield f'<text class="busy" x="{WIDTH - RIGHT + 8}" y="{y:.1f}">{busy:.0%}</text>'


def _draw(bar: Bar, scale: float, top: int, lane: int) -> str:
    x, width = LEFT + bar.start * scale, max(0.5, (bar.end - bar.start) * scale)
    y, height = top + bar.lane * lane + 1.5, lane - 3
    factor, name = unit(bar.end - bar.start)
    count = f", {bar.tasks} tasks" if bar.tasks > 1 else f" [{bar.block}]"
    text = f"{bar.what}{count}, step {bar.step}: {(bar.end - bar.start) * factor:.3g} {name}"
    place = f'x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="{height}"'
    even = "" if bar.step % 2 else " even"
    title = f"<title>{escape(text)}</title>"
    if bar.kind == "forced":
        return f'<g><rect class="forced{even}" {place}/><rect class="hatch" {place}/>{title}</g>'
    return f'<rect class="{bar.kind}{even}" {place}>{title}</rect>'


def _names(chart: Chart, scale: float, top: int, lane: int) -> Iterator[str]:
    if lane < 14:
        return
    for bar in chart.names:
        room = int((bar.end - bar.start) * scale / _CHARACTER - 0.6)
        if text := short_name(bar.what, room):
            x = LEFT + (bar.start + bar.end) / 2 * scale
            y = top + (bar.lane + 0.5) * lane + 4
            yield f'<text class="name on-{bar.kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _steps(chart: Chart, scale: float, top: int, bottom: int) -> Iterator[str]:
    for number, at in chart.steps:
        x = LEFT + at * scale
        yield f'<path class="step" d="M{x:.1f} {top - 4}V{bottom + 3}"/>'
        if x < WIDTH - RIGHT - 50:
            yield f'<text class="step-name" x="{x + 4:.1f}" y="{bottom + 34}">step {number}</text>'


def _rulers(chart: Chart, scale: float, top: int) -> Iterator[str]:
    for i, (text, start, end) in enumerate(chart.rulers):
        y = top - 19 * (len(chart.rulers) - i) + 6
        a, b = LEFT + start * scale, LEFT + end * scale
        line = f"M{a:.1f} {y - 5}v10M{a:.1f} {y}H{b:.1f}M{b:.1f} {y - 5}v10"
        yield f'<path class="ruler" d="{line}"/>'
        yield f'<text class="note" x="{b + 6:.1f}" y="{y + 4}">{escape(text)}</text>'


def _round_tick(least: float) -> float:
    """The smallest of 1, 2, 5, 10, ... (or their tenths) that is not below `least`."""
    tick = 1e-3
    while True:
        for step in (1, 2, 5):
            if tick * step >= least:
                return tick * step
        tick *= 10


_HATCH: Final = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><path d="M0 0V6" stroke="#fff" stroke-width="2.4" '
    'stroke-opacity=".55"/></pattern></defs>'
)


def _style() -> str:
    fills = "".join(f".gantt .{kind}{{fill:{colour}}}" for kind, colour in COLOURS.items())
    return (
        ".gantt text{font:11.5px 'Inter','Helvetica Neue',Arial,sans-serif;fill:#1f2933}"
        ".gantt .title{font-size:16px;font-weight:600}.gantt .note{font-size:12.5px}"
        ".gantt .page{fill:#fff}.gantt rect{shape-rendering:crispEdges}"
        ".gantt .lane{text-anchor:end}.gantt .busy,.gantt .tick{fill:#6b7785}"
        ".gantt .tick,.gantt .name{text-anchor:middle}"
        ".gantt .name{font-size:10.5px;pointer-events:none}"
        ".gantt .on-type-1,.gantt .on-forced{fill:#fff}"
        ".gantt .on-forced{paint-order:stroke;stroke:#D55E00;stroke-width:3px;font-weight:600}"
        f"{fills}.gantt .type-1,.gantt .type-2,.gantt .forced"
        "{stroke:#fff;stroke-width:.5}.gantt .even{fill-opacity:.72}"
        ".gantt .hatch{fill:url(#hatch);pointer-events:none}"
        ".gantt g:hover rect,.gantt rect[class^=type]:hover{stroke:#000;stroke-width:1.5}"
        ".gantt .grid{stroke:#e3e8ee;fill:none}.gantt .step-name{font-weight:600}"
        ".gantt .step{stroke:#1f2933;stroke-width:1.4;stroke-dasharray:4 3;fill:none}"
        ".gantt .ruler{stroke:#1f2933;stroke-width:1.6;fill:none}"
    )
