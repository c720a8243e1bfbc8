"""A bar on standard error for work on volumes."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


def shown(
    items: Iterable[T], what: str, total: int, unit: str, show: bool, done: int = 0
) -> Iterator[T]:
    """Yield `items` and show how many of `total` are finished, `done` of them in a former run."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed}}/{{task.total}} {unit}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not show) as bar:
        task = bar.add_task(what, total=total, completed=done)
        for number, item in enumerate(items, start=done + 1):
            yield item
            bar.update(task, completed=number)
