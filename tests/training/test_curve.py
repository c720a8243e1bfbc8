"""Learning curve: order, truncation, round trips, best point, early stopping."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from znn_dask.training.curve import COLUMNS, LearningCurve, should_stop


def make_curve(updates: int = 10, every: int = 3) -> LearningCurve:
    curve = LearningCurve()
    for step in range(1, updates + 1):
        curve.train.append(step, 1 / step, 0.5 / step, 0.1 * step)
        if step % every == 0:
            curve.validation.append(step, 1.1 / step, 0.6 / step, 0.1 * step)
    return curve


def test_truncate_keeps_the_step_itself():
    curve = make_curve()
    curve.truncate(6)
    assert [point.step for point in curve.train] == [1, 2, 3, 4, 5, 6]
    assert [point.step for point in curve.validation] == [3, 6]
    curve.train.append(7, 0.5, 0.5, 1.0)
    assert curve.train[-1] == (7, 0.5, 0.5, 1.0)


def test_truncate_before_the_first_and_after_the_last_step():
    curve = make_curve()
    curve.truncate(100)
    assert len(curve.train) == 10
    curve.truncate(0)
    assert len(curve.train) == len(curve.validation) == 0


def test_steps_must_increase():
    curve = make_curve()
    with pytest.raises(ValueError, match="step 10 does not follow step 10; truncate"):
        curve.train.append(10, 1.0, 1.0, 1.0)


@given(st.lists(st.tuples(*[st.floats()] * 3), max_size=20), st.integers(0, 20))
def test_arrays_round_trip_bit_for_bit(rows, cut):
    curve = LearningCurve()
    for step, row in enumerate(rows):
        (curve.train if step < cut else curve.validation).append(step, *row)
    arrays = curve.to_arrays()
    again = LearningCurve.from_arrays(arrays).to_arrays()
    assert list(arrays) == [f"{s}_{c}" for s in ("train", "validation") for c in COLUMNS]
    for name, column in arrays.items():
        assert column.dtype == again[name].dtype
        assert column.tobytes() == again[name].tobytes()


def test_missing_column():
    arrays = make_curve().to_arrays()
    del arrays["validation_loss"]
    with pytest.raises(ValueError, match="column validation_loss is missing"):
        LearningCurve.from_arrays(arrays)


def test_json_is_strict():
    curve = make_curve(2, every=1)
    curve.train.append(3, math.nan, math.inf, 1.0)
    data = json.loads(json.dumps(curve.to_json(), allow_nan=False))
    assert data["train"]["step"] == [1, 2, 3]
    assert data["train"]["loss"] == [1.0, 0.5, None]
    assert data["validation"]["seconds"] == [0.1, 0.2]


def test_best_is_the_first_of_equals_and_finite():
    curve = LearningCurve()
    assert curve.best() is None
    for step, loss in enumerate([math.nan, 0.5, 0.2, 0.2, -math.inf], start=1):
        curve.validation.append(step, loss, 0.0, 0.0)
    assert curve.best() == (3, 0.2, 0.0, 0.0)
    assert curve.validated_at(2) == 0.5
    assert curve.validated_at(1) is None
    assert curve.validated_at(7) is None


@pytest.mark.parametrize(
    ("losses", "patience", "stop"),
    [
        ([], 1, False),
        ([1.0], 1, False),
        ([1.0, 1.0], 1, True),
        ([1.0, 0.9, 0.95, 0.91], 3, False),
        ([1.0, 0.9, 0.95, 0.91, 0.9], 3, True),
        ([1.0, math.nan, math.nan], 2, True),
        ([math.nan, 1.0], 1, False),
    ],
)
def test_early_stopping(losses, patience, stop):
    assert should_stop(losses, patience) is stop


def test_early_stopping_needs_patience():
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        should_stop([], 0)


def test_columns_are_copies():
    curve = make_curve()
    steps = curve.train.column("step")
    steps[:] = 0
    assert curve.train[0].step == 1
    assert np.issubdtype(steps.dtype, np.int64)
