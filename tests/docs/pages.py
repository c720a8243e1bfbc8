"""What a page holds: its fenced blocks, in order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`([\w.]+)`:\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block; `file` is the name in front of it, as in "Write `a.py`:"."""

    language: str
    text: str
    file: str | None


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page from top to bottom."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        before = _FILE.search(text[: found.start()])
        yield Block(found[1], found[2], before and before[1])
