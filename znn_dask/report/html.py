"""A report in one HTML file: no scripts, no external resources, light and dark."""

import base64
import io
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from znn_dask.report.style import STYLE


@dataclass(frozen=True)
class Fact:
    """A summary card: what, how much, and one line that puts it in place."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG, as path, bytes or figure, or the text of an SVG, with its caption."""

    image: str | Path | bytes | Figure
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; columns after the first are set as numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """Heading, paragraphs (blank lines part them), pictures, tables and command lines."""

    title: str
    text: str = ""
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    commands: Sequence[str] = ()


def _png(image: str | Path | bytes | Figure) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, Figure):
        buffer = io.BytesIO()
        image.savefig(buffer, format="png", dpi=150)
        return buffer.getvalue()
    return Path(image).read_bytes()


def _picture(picture: Picture, fallback: str) -> str:
    image = picture.image
    vector = isinstance(image, str) and image.lstrip().startswith("<svg")
    kind = "svg+xml" if vector else "png"
    content = image.encode() if vector and isinstance(image, str) else _png(image)
    encoded = base64.b64encode(content).decode("ascii")
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>" if picture.caption else ""
    alt = escape(picture.caption or fallback, quote=True)
    return (
        f'<figure><div class="paper"><img alt="{alt}" '
        f'src="data:image/{kind};base64,{encoded}"></div>'
        f"{caption}</figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in table.header)
    rows = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{escape(cell)}</th>' if i == 0 else f"<td>{escape(cell)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in table.rows
    )
    caption = f"<figcaption>{escape(table.caption)}</figcaption>" if table.caption else ""
    return (
        f'<figure><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{caption}</figure>"
    )


def _section(section: Section, anchor: str) -> str:
    paragraphs = "".join(f"<p>{escape(p)}</p>" for p in section.text.split("\n\n") if p.strip())
    body = [f"<h2>{escape(section.title)}</h2>", paragraphs]
    body += [_picture(picture, section.title) for picture in section.pictures]
    body += [_table(table) for table in section.tables]
    if section.commands:
        lines = "\n".join(f"<span>{escape(line)}</span>" for line in section.commands)
        body.append(f"<pre><code>{lines}</code></pre>")
    return f'<section id="{anchor}">{"".join(body)}</section>'


def _card(fact: Fact) -> str:
    note = f'<p class="note">{escape(fact.note)}</p>' if fact.note else ""
    return (
        f'<div class="card"><p class="label">{escape(fact.label)}</p>'
        f'<p class="value">{escape(fact.value)}</p>{note}</div>'
    )


def render_report(
    title: str,
    sections: Sequence[Section],
    facts: Sequence[Fact] | Mapping[str, str],
    subtitle: str = "",
) -> str:
    """The report as HTML text; see `write_report`."""
    if isinstance(facts, Mapping):
        facts = [Fact(label, value) for label, value in facts.items()]
    anchors = [f"part-{i}" for i in range(1, len(sections) + 1)]
    links = "".join(
        f'<a href="#{anchor}">{escape(section.title)}</a>'
        for anchor, section in zip(anchors, sections, strict=True)
    )
    parts = "".join(_section(s, a) for s, a in zip(sections, anchors, strict=True))
    lead = f'<p class="lead">{escape(subtitle)}</p>' if subtitle else ""
    cards = f'<div class="cards">{"".join(_card(f) for f in facts)}</div>' if facts else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f'<header><div class="wide"><p class="brand">znn_dask</p><h1>{escape(title)}</h1>{lead}'
        f"<nav>{links}</nav></div></header>"
        f'<main class="wide">{cards}{parts}</main>'
        f'<footer class="wide">Made with znn_dask</footer></body></html>\n'
    )


def write_report(
    path: str | Path,
    title: str,
    sections: Sequence[Section],
    facts: Sequence[Fact] | Mapping[str, str],
    *,
    subtitle: str = "",
) -> Path:
    """Write a self-contained HTML report; the file appears complete or not at all.

    sections: shown in order, with links at the top. facts: the summary cards, or a mapping from
    label to value. Text is escaped. Returns the path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        temporary.write_text(render_report(title, sections, facts, subtitle), encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
