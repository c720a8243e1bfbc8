"""Sections of RESULTS.md: each script replaces its own and leaves the others alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)


def write_section(title: str, text: str, path: Path = RESULTS) -> None:
    """Replace the section `## title` of RESULTS.md by `text`, or append it."""
    head, *sections = path.read_text(encoding="utf-8").split("\n## ")
    body = f"{title}\n\n{text.strip()}\n"
    found = [i for i, section in enumerate(sections) if section.split("\n", 1)[0] == title]
    if found:
        sections[found[0]] = body
    else:
        sections.append(body)
    path.write_text("\n## ".join([head.rstrip() + "\n", *sections]), encoding="utf-8")
