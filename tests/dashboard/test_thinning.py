"""A thin curve: bounded, in order, and with the means of the whole."""

from hypothesis import given
from hypothesis import strategies as st

from znn_dask.dashboard.thinning import ThinCurve, smooth

MOST = 8


@given(st.lists(st.floats(-1e3, 1e3), max_size=300))
def test_a_thin_curve_has_the_mean_of_all_and_a_bounded_length(values: list[float]) -> None:
    curve = ThinCurve(MOST)
    for step, value in enumerate(values, 1):
        curve.append(step, value)
    points = curve.points()
    steps, means = points["step"], points["loss"]
    assert len(steps) == len(means) <= MOST
    assert steps == sorted(set(steps))
    assert len(steps) >= min(len(values), MOST // 2)
    if values:
        assert steps[-1] == len(values)
        widths = [b - a for a, b in zip([0, *steps], steps, strict=False)]
        total = sum(width * mean for width, mean in zip(widths, means, strict=True))
        assert abs(total - sum(values)) < 1e-6


def test_few_points_stay_as_they_are() -> None:
    curve = ThinCurve(MOST)
    for step in range(10, 18):
        curve.append(step, step / 2)
    assert curve.points() == {"step": list(range(10, 18)), "loss": [s / 2 for s in range(10, 18)]}


def test_smoothing_takes_as_many_neighbours_as_there_are() -> None:
    assert smooth([1.0, 2.0, 6.0, 3.0], 1) == [1.5, 3.0, 11 / 3, 4.5]
    assert smooth([1.0, 2.0], 0) == [1.0, 2.0]
    assert smooth([], 3) == []
