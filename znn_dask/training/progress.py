"""Progress of long work: a live bar in a terminal or notebook, a line now and then elsewhere.

`live.py` shows trainings in notebooks.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from znn_dask.dashboard.quantities import duration, si
from znn_dask.training.curve import LearningCurve, sparkline
from znn_dask.training.screen import Screen, bar_html, in_notebook

QUIET_SECONDS = 30.0  # between lines where there is no live display
_REDRAW = 1.0  # seconds between drawings of the curve in a terminal
_WINDOW = 30.0  # seconds over which rates are averaged: long enough to bridge a validation

T = TypeVar("T")
Clock = Callable[[], float]


class TrainingProgress:
    """Context manager that shows how far a training is, how well, and how fast.

    Args:
        total: updates of the whole training.
        start: updates finished already.
        voxels_per_update: output voxels of one update, for the rate; batch times output patch.
        curve: learning curve, drawn in a line of text beside the bar of a terminal.
        console: where to show it; standard error by default.
        every: seconds between lines when the console is not a terminal or notebook.
        clock: seconds, increasing; for tests.
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        voxels_per_update: int = 0,
        *,
        curve: LearningCurve | None = None,
        console: Console | None = None,
        every: float = QUIET_SECONDS,
        clock: Clock = time.monotonic,
    ) -> None:
        self.total, self.voxels_per_update = total, voxels_per_update
        self._console = console or Console(stderr=True)
        self._rate = _Rate(start, clock)
        self._gate = _Gate(every, clock)
        self._step, self._printed = start, start
        self._loss: float | None = None
        self._validation: float | None = None
        self._curve = curve
        self._drawn, self._redraw = "", _Gate(_REDRAW, clock)
        self._bar = None
        if is_live(self._console):
            self._bar = _bar(self._console, _Summary(lambda: f"{self._drawn} {self.summary()}"))
        if self._bar is not None:
            self._task = self._bar.add_task("training", total=total, completed=start)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()
        elif self._printed != self._step:
            self._line()

    def update(self, step: int, loss: float) -> None:
        """Say that ``step`` updates are finished, the last of them with this ``loss``."""
        self.note(step, loss)
        if self._bar is not None:
            if self._curve is not None and self._redraw.open():
                # Here, and not in the bar's thread: the curve must not grow while it is read.
                self._drawn = sparkline(self._curve.train.column("loss"))
            self._bar.update(self._task, completed=step)
        elif self._gate.open():
            self._line()

    def note(self, step: int, loss: float) -> None:
        """Take this into the summary, and show nothing."""
        self._step, self._loss = step, loss
        self._rate.add(step)

    def validated(self, loss: float) -> None:
        """Show this validation loss from now on."""
        self._validation = loss

    def message(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def summary(self) -> str:
        """Loss, rates and remaining time as one text."""
        parts = []
        if self._loss is not None:
            parts.append(f"loss {self._loss:.4g}")
        if self._validation is not None:
            parts.append(f"validation {self._validation:.4g}")
        rate = self._rate.value()
        if rate is not None:
            parts.append(f"{rate:.3g} updates/s")
            if self.voxels_per_update:
                parts.append(f"{si(rate * self.voxels_per_update)}voxels/s")
            if rate > 0:
                parts.append(f"{duration((self.total - self._step) / rate)} left")
        return ", ".join(parts)

    def _line(self) -> None:
        self._printed = self._step
        self.message(f"update {self._step:,} of {self.total:,}: {self.summary()}")


def track(
    items: Iterable[T],
    description: str,
    total: int | None = None,
    *,
    done: int = 0,
    voxels: Callable[[T], int] | None = None,
    console: Console | None = None,
    every: float = QUIET_SECONDS,
    clock: Clock = time.monotonic,
) -> Iterator[T]:
    """Yield ``items`` and show how many of them are done.

    ``total`` is their number, where ``items`` has no length, with the ``done`` ones that an earlier
    run finished. ``voxels`` of an item are shown as a rate. Away from a terminal or notebook a line
    is printed every ``every`` seconds, and nothing at all when the work takes less.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    console = console or Console(stderr=True)
    rate, seen, number = _Rate(0, clock), 0, done

    def speed() -> str:
        value = rate.value()
        return f"{si(value)}voxels/s" if value else ""

    def line() -> str:
        of = f" of {total:,}" if total is not None else ""
        return ", ".join(filter(None, (f"{description}: {number:,}{of}", speed())))

    def drawn() -> tuple[str, str]:
        return bar_html(number / total if total else 0.0, line()), line()

    columns = (_Summary(speed), TimeElapsedColumn(), TimeRemainingColumn())
    bar = _bar(console, *columns) if is_live(console) else None
    screen = Screen(drawn) if in_notebook() else None
    gate = _Gate(every, clock)
    gate.open()  # the first line comes after one period
    with bar or contextlib.nullcontext():
        task = bar.add_task(description, total=total, completed=done) if bar else None
        for number, item in enumerate(items, start=done + 1):
            yield item
            if voxels is not None:
                seen += voxels(item)
                rate.add(seen)
            if bar is not None and task is not None:
                bar.update(task, completed=number)
            elif screen is not None:
                screen.refresh()
            elif gate.open():
                console.print(line(), markup=False, highlight=False, soft_wrap=True)
    if screen is not None:
        screen.draw()


def is_live(console: Console) -> bool:
    """Whether the console can redraw a line: a terminal that is not a dumb one."""
    return console.is_terminal and not console.is_dumb_terminal


class _Summary(ProgressColumn):
    """A text with its own rates: rich's would jump at every validation."""

    max_refresh = 0.5

    def __init__(self, text: Callable[[], str]) -> None:
        super().__init__()
        self._text = text

    def render(self, task: Task) -> Text:
        return Text(self._text())


def _bar(console: Console, *last: ProgressColumn) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    return Progress(*columns, *last, console=console, refresh_per_second=4)


class _Rate:
    """Steps (or voxels) per second over the last half minute."""

    def __init__(self, step: int, clock: Clock) -> None:
        self._clock = clock
        self._points = deque([(clock(), step)])

    def add(self, step: int) -> None:
        now = self._clock()
        if now > self._points[-1][0]:
            self._points.append((now, step))
        while len(self._points) > 2 and self._points[1][0] < now - _WINDOW:
            self._points.popleft()

    def value(self) -> float | None:
        (begin, first), (end, last) = self._points[0], self._points[-1]
        return (last - first) / (end - begin) if end > begin else None


class _Gate:
    """Open at first, then once per period."""

    def __init__(self, every: float, clock: Clock) -> None:
        self._every, self._clock = every, clock
        self._next = float("-inf")

    def open(self) -> bool:
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._every
        return True
