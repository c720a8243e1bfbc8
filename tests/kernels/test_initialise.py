"""Initialisers: ranges, moments, defaults, seeding; block-tied kernels."""

import math

import numpy as np
import pytest

from znn_dask.kernels.initialise import initialise, initialise_biases, tie
from znn_dask.kernels.randomness import generator

SHAPE = (2, 5, 5, 20, 30)
FAN_IN, FAN_OUT = 20 * 50, 30 * 50


def _draw(init: str, *args: float, dtype: type = np.float64) -> np.ndarray:
    return initialise(init, args, SHAPE, generator("init", 1), dtype)


def test_constants() -> None:
    assert not _draw("zero").any()
    assert (_draw("constant", 0.25) == 0.25).all()


@pytest.mark.parametrize(
    ("init", "args", "low", "high"),
    [
        ("uniform", (), -0.1, 0.1),
        ("uniform", (0.05,), -0.05, 0.05),
        ("uniform", (-1, 3), -1, 3),
        ("xavier", (), -math.sqrt(6 / (FAN_IN + FAN_OUT)), math.sqrt(6 / (FAN_IN + FAN_OUT))),
    ],
)
def test_uniform_ranges(init: str, args: tuple[float, ...], low: float, high: float) -> None:
    w = _draw(init, *args)
    assert w.shape == SHAPE
    assert low <= w.min() < low + (high - low) / 100
    assert high >= w.max() > high - (high - low) / 100
    assert w.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.02)


@pytest.mark.parametrize(
    ("init", "args", "mean", "deviation"),
    [
        ("gaussian", (), 0, 0.01),
        ("gaussian", (2,), 2, 0.01),
        ("gaussian", (2, 3), 2, 3),
        ("msra", (), 0, math.sqrt(2 / FAN_IN)),
        ("bernoulli", (), 0.5, 0.5),
        ("bernoulli", (0.1,), 0.1, 0.3),
    ],
)
def test_moments(init: str, args: tuple[float, ...], mean: float, deviation: float) -> None:
    w = _draw(init, *args)
    assert w.mean() == pytest.approx(mean, abs=0.03 * deviation)
    assert w.std() == pytest.approx(deviation, rel=0.02)


def test_seeded_and_alike_in_both_dtypes() -> None:
    for init in ("uniform", "gaussian", "xavier", "msra"):
        double = _draw(init)
        single = _draw(init, dtype=np.float32)
        np.testing.assert_array_equal(single, double.astype(np.float32))
        assert single.dtype == np.float32


@pytest.mark.parametrize(
    ("init", "args", "message"),
    [
        ("xaver", (), "unknown init 'xaver'; known: zero"),
        ("constant", (), "0 arguments.*takes 1"),
        ("uniform", (1, 2, 3), r"\(1, 2, 3\) and takes 0 to 2"),
    ],
)
def test_errors(init: str, args: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _draw(init, *args)


def test_biases() -> None:
    rng = generator(0)
    assert not initialise_biases(None, (), 4, rng).any()
    assert (initialise_biases("constant", (0.5,), 4, rng) == 0.5).all()
    assert initialise_biases("uniform", (), 4, rng).shape == (4,)
    with pytest.raises(ValueError, match="needs fans"):
        initialise_biases("msra", (), 4, rng)


def test_tie_averages_blocks() -> None:
    w = np.random.default_rng(0).normal(size=(2, 4, 6, 3, 2))
    tied = tie(w, (1, 2, 3))
    for z, y, x in np.ndindex(2, 4, 6):
        block = w[z, y // 2 * 2 : y // 2 * 2 + 2, x // 3 * 3 : x // 3 * 3 + 3]
        np.testing.assert_allclose(tied[z, y, x], block.mean(axis=(0, 1)), rtol=1e-12)
    np.testing.assert_allclose(tie(tied, (1, 2, 3)), tied, rtol=1e-12)
    np.testing.assert_array_equal(tie(w, (1, 1, 1)), w)


def test_tie_refuses_what_does_not_divide() -> None:
    with pytest.raises(ValueError, match=r"\(1, 5, 6\).*\(1, 2, 2\)"):
        tie(np.zeros((1, 5, 6, 1, 1)), (1, 2, 2))
