"""Jobs as a table, and as JSON."""

import json
import time
from collections.abc import Sequence

from znn_dask.jobs.records import History
from znn_dask.jobs.state import is_over, last_words, state_of, steps_done
from znn_dask.training.progress import duration

_COLUMNS = ("id", "title", "kind", "state", "progress", "rate", "loss", "age", "attempts")
_SILENT_SECONDS = 60.0
_UNIT = {"training": "updates", "prediction": "blocks"}


def table(histories: Sequence[History], now: float | None = None) -> str:
    """One line for each job; `now` in seconds since 1970."""
    now = time.time() if now is None else now
    rows = [_COLUMNS, *(_row(history, now) for history in histories)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def as_json(histories: Sequence[History]) -> str:
    """The same facts, and the reason of the state, as a list of objects."""
    return json.dumps([_facts(history) for history in histories], indent=1)


def _facts(history: History) -> dict[str, object]:
    progress = history.progress
    return {
        "id": history.id,
        "title": history.description.title,
        "kind": history.description.kind,
        "state": state_of(history),
        "reason": last_words(history),
        "step": steps_done(history),
        "last": progress.last if progress is not None else 0,
        "rate": progress.rate if progress is not None else None,
        "loss": progress.loss if progress is not None else None,
        "validation": progress.validation if progress is not None else None,
        "submitted": history.description.time,
        "heard": progress.time if progress is not None else None,
        "attempts": history.attempt,
    }


def _row(history: History, now: float) -> tuple[str, ...]:
    progress, kind = history.progress, history.description.kind
    done, last = steps_done(history), progress.last if progress is not None else 0
    far = f"{done:,} of {last:,}" if last else f"{done:,}" if done else "-"
    going = progress is not None and not is_over(history)
    rate = progress.rate if going and progress is not None else None
    loss = progress.loss if progress is not None else None
    return (
        history.id,
        history.description.title,
        kind,
        _state(history, now),
        far,
        "-" if rate is None else f"{rate:.3g} {_UNIT[kind]}/s",
        "-" if loss is None else f"{loss:.4g}",
        duration(now - history.description.time),
        str(history.attempt),
    )


def _state(history: History, now: float) -> str:
    """The state, and whether its driver has not been heard of for long."""
    state = state_of(history)
    heard = history.progress.time if history.progress is not None else now
    if state == "running" and now - heard > _SILENT_SECONDS:
        return f"{state}, silent for {duration(now - heard)}"
    return state
