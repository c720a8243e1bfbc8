"""A place in a notebook's output that is drawn again and again while something runs."""

import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any

RUNNING = "#3f86c4"  # colour of a bar
SECONDS = 1.0  # between drawings
SHARE = 0.01  # of the time that drawing may take

Clock = Callable[[], float]
Content = Callable[[], tuple[str, str]]
"""Makes (HTML, the same as text)."""

_BAR = (
    '<div style="display:flex;align-items:center;gap:10px;font:13px system-ui,sans-serif">'
    '<div style="width:180px;height:7px;border-radius:4px;'
    'background:color-mix(in srgb,currentColor 16%,transparent);flex:none">'
    '<div style="width:{percent:.1f}%;height:100%;border-radius:4px;background:{colour}"></div>'
    "</div><span>{text}</span></div>"
)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process; no import is made to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def bar_html(share: float, text: str, colour: str = RUNNING) -> str:
    """A progress bar, `share` (0 to 1) of it filled, with text beside it."""
    percent = 100 * min(1.0, max(0.0, share))
    return _BAR.format(percent=percent, text=escape(text), colour=colour)


class Screen:
    """Draws its content at most every second, and so rarely that it takes one percent of the time.

    It needs no widgets: the front end replaces one output by the next.
    """

    def __init__(self, content: Content, clock: Clock = time.perf_counter) -> None:
        self._content, self._clock = content, clock
        self._handle: Any = None
        self._next = float("-inf")

    def refresh(self) -> None:
        """Draw if it is time."""
        if self._clock() >= self._next:
            self.draw()

    def draw(self) -> None:
        """Draw now."""
        from IPython.display import display

        begin = self._clock()
        html, text = self._content()
        bundle = {"text/html": html, "text/plain": text}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
        end = self._clock()
        self._next = end + max(SECONDS, (end - begin) / SHARE)
