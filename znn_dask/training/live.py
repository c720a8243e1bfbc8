"""A training that shows itself in a notebook while it runs: progress, learning curve, messages."""

import time
from html import escape
from pathlib import Path

from znn_dask.training.curve_svg import curve_svg
from znn_dask.training.progress import TrainingProgress, duration
from znn_dask.training.screen import RUNNING, Screen, bar_html
from znn_dask.training.watching import Run, Watcher

_DONE, _STOPPED = "#2f9e6e", "#b7791f"
_MESSAGES = 5  # the last ones are shown


class Live(Watcher):
    """One output of the cell, drawn again about once a second by the thread that calls `fit`."""

    def begin(self, run: Run) -> None:
        self._run, self._begun = run, time.monotonic()
        self._step, self._ended = run.first, False
        self._messages: list[str] = []
        self._saved: str | Path | None = None
        # Its numbers only: a notebook has no line that it could redraw.
        self._progress = TrainingProgress(run.last, run.first, run.voxels)
        self._screen = Screen(self._content)
        self._screen.draw()

    def update(self, step: int, loss: float) -> None:
        self._step = step
        self._progress.note(step, loss)
        self._screen.refresh()

    def validated(self, step: int, loss: float) -> None:
        self._progress.validated(loss)

    def saved(self, step: int, checkpoint: str | Path) -> None:
        self._saved = checkpoint

    def message(self, text: str) -> None:
        self._messages = [*self._messages, text][-_MESSAGES:]
        self._screen.draw()

    def end(self) -> None:
        self._ended = True
        self._screen.draw()

    def _line(self) -> str:
        line = f"update {self._step:,} of {self._run.last:,}"
        if not self._ended:
            return ": ".join(filter(None, (line, self._progress.summary())))
        made, seconds = self._step - self._run.first, time.monotonic() - self._begun
        speed = f", {made / seconds:.3g} updates/s" if made > 0 else ""
        return f"{line}, {duration(seconds)}{speed}"

    def _content(self) -> tuple[str, str]:
        line, messages = self._line(), list(self._messages)
        if self._ended and self._saved is not None:
            messages.append(f"checkpoint: {self._saved}")
        ended = _DONE if self._step >= self._run.last else _STOPPED
        bar = bar_html(self._step / self._run.last, line, ended if self._ended else RUNNING)
        notes = "".join(
            f'<div style="font:12.5px system-ui,sans-serif;opacity:.8">{escape(text)}</div>'
            for text in messages
        )
        curve = self._run.trainer.curve
        drawn = curve_svg(curve) if curve.train else ""
        return f"<div>{bar}{notes}{drawn}</div>", "\n".join([line, *messages])
