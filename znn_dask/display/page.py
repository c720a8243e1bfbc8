"""Pieces of HTML that displays are made of: a style sheet, headings, facts, tables, pictures.

Colours come from the page around (`currentColor`), so displays fit light and dark themes alike.
"""

import base64
import functools
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import ParamSpec, TypeVar

Given = ParamSpec("Given")
Made = TypeVar("Made")

STYLE = """<style>
.znn{font:13px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
color:inherit;max-width:980px}
.znn h4{margin:4px 0 2px;font-size:14.5px;font-weight:650}
.znn p{margin:2px 0 6px}
.znn .faint{opacity:.68}
.znn .scroll{overflow-x:auto}
.znn table{border-collapse:collapse;border:0;margin:4px 0 8px;font-variant-numeric:tabular-nums}
.znn table th,.znn table td{padding:2px 14px 2px 0;border:0;text-align:left!important;
white-space:nowrap;vertical-align:top;background:none;color:inherit;font-size:12.5px}
.znn table thead th{border-bottom:1px solid color-mix(in srgb,currentColor 30%,transparent);
font-weight:600;opacity:.75}
.znn tr{background:none!important}
.znn table .number{text-align:right!important}
.znn table.facts th{font-weight:400;opacity:.68}
.znn table.facts td{white-space:normal}
.znn .pictures{display:flex;flex-wrap:wrap;gap:12px;margin:6px 0}
.znn figure{margin:0}
.znn figcaption{font-size:12px;opacity:.75}
.znn figure img{display:block;border-radius:3px;image-rendering:auto}
.znn summary{cursor:pointer;opacity:.75}
.znn svg{max-width:100%;height:auto}
.znn .gantt .page{fill:none}
.znn .gantt text{fill:currentColor}
.znn .gantt .on-type-1,.znn .gantt .on-forced{fill:#fff}
.znn .gantt .on-type-2{fill:#1f2933}
.znn .gantt .grid{stroke:currentColor;stroke-opacity:.15}
.znn .gantt .step,.znn .gantt .ruler{stroke:currentColor}
</style>"""


def harmless(make: Callable[Given, Made]) -> Callable[Given, Made | None]:
    """A maker of displays that returns None where it cannot: front ends then show the text."""

    @functools.wraps(make)
    def made(*given: Given.args, **options: Given.kwargs) -> Made | None:
        try:
            return make(*given, **options)
        except Exception:  # whatever is wrong with an object, looking at it must not fail
            return None

    return made


def page(title: str, *parts: str) -> str:
    """A whole display; the parts are HTML, the title is text."""
    return f'{STYLE}<div class="znn"><h4>{escape(title)}</h4>{"".join(parts)}</div>'


def note(text: str) -> str:
    """A line in faint ink."""
    return f'<p class="faint">{escape(text)}</p>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values below each other."""
    lines = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<table class="facts">{"".join(lines)}</table>'


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str] = ()
) -> str:
    """A table of text; the columns called `numbers` are aligned to the right."""
    kinds = [' class="number"' if name in numbers else "" for name in columns]

    def line(cells: Sequence[str], tag: str) -> str:
        made = (
            f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    head = line(columns, "th")
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def folded(summary: str, content: str) -> str:
    """Content that opens at a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def picture(jpeg: bytes, caption: str, width: float, height: float) -> str:
    """A JPEG with its caption, drawn in so many pixels."""
    data = base64.b64encode(jpeg).decode()
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" width="{width:.0f}"'
        f' height="{height:.0f}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def pictures(figures: Iterable[str]) -> str:
    """Pictures side by side."""
    return f'<div class="pictures">{"".join(figures)}</div>'
