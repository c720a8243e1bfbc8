"""Transfer functions against their formulas and finite differences."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.kernels.transfer import transfer

FORMULAS: list[tuple[str, tuple[float, ...], Callable[[float], float]]] = [
    ("linear", (), lambda x: x),
    ("linear", (2.5,), lambda x: 2.5 * x),
    ("linear", (2.5, -1), lambda x: 2.5 * x - 1),
    ("rectify_linear", (), lambda x: max(x, 0.0)),
    ("tanh", (), math.tanh),
    ("tanh", (1.7159, 0.6666), lambda x: 1.7159 * math.tanh(0.6666 * x)),
    ("soft_sign", (), lambda x: x / (1 + abs(x))),
    ("logistics", (), lambda x: 1 / (1 + math.exp(-x))),
    ("forward_logistics", (), lambda x: 1 / (1 + math.exp(-x))),
]
SHAPES = [(3, 4, 5, 2), (1, 1, 1, 1), (2, 300, 300, 2)]  # the last takes two chunks


def _map(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=shape, scale=2),
        rng.normal(size=shape[-1]),
        rng.normal(size=shape),
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "args", "formula"), FORMULAS)
def test_forward_is_the_formula_in_place(name, args, formula, shape) -> None:
    x, bias, _ = _map(shape)
    expected = np.vectorize(formula)(x + bias)
    returned = transfer(name, args).forward(x, bias)
    assert returned is x
    np.testing.assert_allclose(x, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "args"), [f[:2] for f in FORMULAS])
def test_backward_matches_finite_differences(name, args, shape) -> None:
    function = transfer(name, args)
    x, bias, g = _map(shape)
    x[np.abs(x + bias) < 1e-3] += 0.1  # away from the kink of rectify_linear
    h = 1e-6
    f = function.forward(x.copy(), bias)
    slope = (function.forward(x + h, bias) - function.forward(x - h, bias)) / (2 * h)
    if name == "forward_logistics":
        slope = np.ones_like(x)
    dx = g.copy()
    biases = function.backward(dx, f)
    np.testing.assert_allclose(dx, g * slope, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(biases, (g * slope).sum(axis=(0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("name", "args"), [f[:2] for f in FORMULAS])
def test_single_precision_stays_single(name, args) -> None:
    function = transfer(name, args)
    x, bias, g = (a.astype(np.float32) for a in _map((3, 4, 5, 2)))
    double = function.forward(x.astype(np.float64), bias.astype(np.float64))
    f = function.forward(x, bias)
    biases = function.backward(g, f)
    assert f.dtype == g.dtype == biases.dtype == np.float32
    np.testing.assert_allclose(f, double, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logistics_saturates_without_warnings(dtype: type) -> None:
    x = np.array([-1e30, -800, -90, -20, 0, 20, 90, 800, 1e30], dtype).reshape(1, 1, -1, 1)
    f = transfer("logistics").forward(x, np.zeros(1, dtype)).ravel()
    assert (np.diff(f) >= 0).all()
    assert f[0] < 1e-37
    assert f[3] == pytest.approx(math.exp(-20), rel=1e-6)
    assert f[-1] == 1


def test_not_a_number_is_not_hidden() -> None:
    for name in ("rectify_linear", "logistics", "tanh", "soft_sign", "linear"):
        x = np.array([np.nan, 1]).reshape(1, 1, 2, 1)
        assert np.isnan(transfer(name).forward(x, np.zeros(1))[0, 0, 0, 0]), name


@pytest.mark.parametrize("name", ["tanh", "rectify_linear", "linear"])
def test_views_of_a_larger_map(name) -> None:
    big, bias, big_g = _map((4, 6, 6, 3))
    box = (slice(1, 3), slice(4), slice(2, None))
    alone, g_alone = big[box].copy(), big_g[box].copy()
    function = transfer(name)
    function.forward(big[box], bias)
    np.testing.assert_array_equal(big[box], function.forward(alone, bias))
    around = big_g.copy()
    biases = function.backward(big_g[box], big[box])
    np.testing.assert_array_equal(biases, function.backward(g_alone, alone))
    np.testing.assert_array_equal(big_g[box], g_alone)
    around[box] = g_alone
    np.testing.assert_array_equal(big_g, around)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 30), st.integers(1, 9)),
    st.sampled_from(["rectify_linear", "linear"]),
    st.sampled_from([np.float32, np.float64]),
)
def test_one_pass_is_several(shape, name, dtype) -> None:
    """The compiled functions against numpy, whatever is left of a line for short vectors."""
    x, bias, g = (a.astype(dtype) for a in _map(shape))
    args = (0.5, 2.0) if name == "linear" else ()
    total = x + bias
    want = np.maximum(total, 0) if name == "rectify_linear" else 0.5 * total + 2
    slope = (total > 0) if name == "rectify_linear" else dtype(0.5)
    function = transfer(name, args)
    f = function.forward(x.copy(), bias)
    np.testing.assert_allclose(f, want, rtol=2e-6, atol=2e-6)
    dx = g.copy()
    biases = function.backward(dx, f)
    np.testing.assert_array_equal(dx, g * slope)
    lines = np.add.reduce(dx, axis=1)
    np.testing.assert_array_equal(biases, lines.sum(axis=(0, 1), dtype=np.float64).astype(dtype))


def test_errors() -> None:
    with pytest.raises(ValueError, match="unknown transfer function 'relu'; known: linear"):
        transfer("relu")
    with pytest.raises(ValueError, match=r"3 arguments.*takes at most 2"):
        transfer("tanh", (1, 2, 3))
