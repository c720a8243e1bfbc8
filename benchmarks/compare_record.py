"""The figures of `compare.py` in a file, so that it can be run in pieces."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from compare_report import Comparison, Pair

RECORD = Path(__file__).with_name("compare.json")


def save(found: Sequence[Comparison], path: Path = RECORD) -> None:
    """Write the figures of these networks."""
    path.write_text(json.dumps([asdict(c) for c in found], indent=1) + "\n", encoding="utf-8")


def load(path: Path = RECORD) -> list[Comparison]:
    """What `save` wrote; nothing where it has not."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    found = []
    for row in rows:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        values |= {kind: Pair(**row[kind]) for kind in ("update", "forward")}
        found.append(Comparison(**values))
    return found


def together(earlier: Sequence[Comparison], found: Sequence[Comparison]) -> list[Comparison]:
    """The earlier figures, those of `found` in place of older ones of the same networks."""
    newest = {c.name: c for c in (*earlier, *found)}
    return list(newest.values())
