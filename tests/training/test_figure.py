"""Picture of the learning curve."""

import io
import math
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from znn_dask.training.curve import LearningCurve, smooth
from znn_dask.training.figure import (
    learning_curve_figure,
    learning_curve_png,
    save_learning_curve,
)


def make_curve(updates: int) -> LearningCurve:
    rng = np.random.default_rng(0)
    curve = LearningCurve()
    for step in range(1, updates + 1):
        level = 0.2 + 0.5 * math.exp(-step / 500)
        noise = rng.gamma(4, 0.25)
        curve.train.append(step, level * noise, 0.5 * level * noise, 0.1 * step)
        if step % 200 == 0:
            overfit = 0.1 * step / updates
            curve.validation.append(step, level + overfit, 0.5 * level + overfit, 0.1 * step)
    return curve


def test_smooth_is_a_centred_mean():
    values = np.array([1.0, 2.0, 6.0, np.nan, np.inf, 4.0])
    np.testing.assert_allclose(smooth(values, 1)[:3], values[:3])
    np.testing.assert_allclose(smooth(values, 3), [1.5, 3.0, 4.0, 6.0, 4.0, 4.0])
    assert np.isnan(smooth(np.array([np.nan]), 3))[0]
    assert smooth(np.array([]), 3).shape == (0,)


@pytest.mark.parametrize("updates", [0, 1, 5, 2000])
def test_picture_of_any_length(updates, tmp_path):
    save_learning_curve(make_curve(updates), tmp_path / "curve.png", "title")
    picture = imread(tmp_path / "curve.png")
    assert picture.shape[:2] == (432, 1080)
    assert picture.std() > 0.01


def test_best_is_marked_and_outliers_do_not_flatten():
    curve = make_curve(2000)
    curve.train.append(2001, 1e6, 1.0, 300.0)
    curve.train.append(2002, math.nan, 1.0, 300.0)
    loss, error = learning_curve_figure(curve).axes
    best = curve.best()
    assert best is not None
    labels = [text.get_text() for text in loss.get_legend().get_texts()]
    assert labels == ["training", "validation", f"best: {best.loss:.4g} at {best.step:,}"]
    assert loss.get_ylim()[1] < 3
    assert error.get_xlabel() == "updates"


def test_long_curves_are_quick_to_draw():
    curve = LearningCurve()
    for step in range(1, 50_001):
        curve.train.append(step, 1 / step, math.nan, 0.0)
    axes, _ = learning_curve_figure(curve).axes
    assert len(axes.lines[0].get_xdata()) <= 1000


def test_pyplot_is_not_involved():
    content = learning_curve_png(make_curve(10))
    assert imread(io.BytesIO(content)).size > 0
    assert content.startswith(b"\x89PNG")
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )
