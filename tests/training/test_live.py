"""The learning curve as SVG and as text, and the screen that draws it: bounded in time and size."""

import time
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from znn_dask.training.curve import LearningCurve, sparkline
from znn_dask.training.curve_svg import curve_svg
from znn_dask.training.screen import SHARE, Screen, bar_html, in_notebook

SVG = "{http://www.w3.org/2000/svg}"


def curve(updates: int, validations: int = 0) -> LearningCurve:
    made = LearningCurve()
    for step in range(1, updates + 1):
        made.train.append(step, 1 / step, 0.5, 0.1)
    for step in range(1, validations + 1):
        made.validation.append(step, 0.5, 0.25, 0.1)
    return made


@pytest.mark.parametrize(
    ("updates", "validations"), [(0, 0), (1, 0), (2, 1), (300, 3), (20_000, 9)]
)
def test_svg_is_sound_and_small(updates: int, validations: int) -> None:
    text = curve_svg(curve(updates, validations))
    tree = ElementTree.fromstring(text)
    assert len(tree.findall(f"{SVG}circle")) == 2 * validations
    lines = [path for path in tree.findall(f"{SVG}path") if path.get("class") == "train"]
    assert len(lines) >= (2 if updates else 1)  # one in each panel, one in the legend
    assert len(text) < 40_000
    assert "nan" not in text


def test_values_that_are_not_finite_are_left_out() -> None:
    made = curve(3)
    made.train.append(4, np.nan, np.inf, 0.1)
    made.validation.append(4, np.nan, np.nan, 0.1)
    text = curve_svg(made)
    assert "nan" not in text
    assert "inf" not in text
    assert "<circle" not in text


def test_sparkline() -> None:
    assert sparkline(np.array([])) == ""
    assert sparkline(np.array([np.nan])) == ""
    assert sparkline(np.array([8.0, 4.0, 0.0])) == "█▅▁"
    falling = sparkline(np.linspace(1, 0, 1000), width=8)
    assert len(falling) == 8
    assert list(falling) == sorted(falling, reverse=True)


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Front:
    """Takes the place of the front end: counts what is shown."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def display(self, bundle: dict[str, str], **options: Any) -> "Front":
        assert options == {"raw": True, "display_id": True}
        self.shown.append(bundle)
        return self

    def update(self, bundle: dict[str, str], **options: Any) -> None:
        self.shown.append(bundle)


def test_a_screen_takes_one_percent_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display")
    front, clock = Front(), Clock()
    monkeypatch.setattr(display, "display", front.display)
    cost = 0.05

    def content() -> tuple[str, str]:
        clock.now += cost
        return "<b>one</b>", "one"

    shown = Screen(content, clock)
    for _ in range(100_000):
        shown.refresh()
        clock.now += 0.001
    spent = cost * len(front.shown)
    assert len(front.shown) > 5
    assert spent <= 1.1 * SHARE * clock.now + cost
    assert front.shown[0] == {"text/html": "<b>one</b>", "text/plain": "one"}


def test_no_kernel_here() -> None:
    assert not in_notebook()


def test_a_bar_stays_within_its_bounds() -> None:
    assert "width:100.0%" in bar_html(1.5, "<done>")
    assert "&lt;done&gt;" in bar_html(1.5, "<done>")
    assert "width:0.0%" in bar_html(-1, "")


def test_drawing_a_long_curve_is_quick() -> None:
    made = curve(100_000, 100)
    begin = time.perf_counter()
    curve_svg(made)
    assert time.perf_counter() - begin < 1.0  # a few hundredths, where nothing else runs
