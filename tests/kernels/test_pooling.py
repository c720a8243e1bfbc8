"""Edges that are not convolutions against plain definitions and finite differences."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import maximum_filter

from znn_dask.kernels.pooling import (
    Crop,
    Dropout,
    EdgeKernel,
    Identity,
    MaxFilter,
    MaxPool,
    maxout,
    maxout_backward,
)

triples = st.tuples(*[st.integers(1, 4)] * 3)


def _separable(
    x: np.ndarray, size: tuple, dilation: tuple, stride: tuple
) -> tuple[np.ndarray, np.ndarray]:
    """Maxima, and the input voxel (z, y, x) of each, pass by pass with a strict comparison."""
    sources = np.stack(np.indices(x.shape[:3]), axis=-1)[..., None, :]
    sources = np.broadcast_to(sources, (*x.shape, 3))
    for axis in range(3):
        count = (x.shape[axis] - (size[axis] - 1) * dilation[axis] - 1) // stride[axis] + 1
        best_x, best_sources = [], []
        for i in range(count):
            best = np.take(x, i * stride[axis], axis).copy()
            source = np.take(sources, i * stride[axis], axis).copy()
            for j in range(1, size[axis]):
                at = i * stride[axis] + j * dilation[axis]
                later = np.take(x, at, axis) > best
                best[later] = np.take(x, at, axis)[later]
                source[later] = np.take(sources, at, axis)[later]
            best_x.append(best)
            best_sources.append(source)
        x, sources = np.stack(best_x, axis), np.stack(best_sources, axis)
    return x, sources


def _check_maximum(
    kernel: MaxFilter | MaxPool, output: tuple, channels: int, levels: int, seed: int
) -> None:
    """Few `levels` make many ties."""
    rng = np.random.default_rng(seed)
    block = tuple(slice(0, n) for n in output)
    shape = (*(s.stop for s in kernel.input_box(block, (0, 0, 0))), channels)
    x = rng.integers(0, levels, shape).astype(np.float64)
    expected, sources = _separable(x, kernel.size, kernel.dilation, kernel.stride)
    y, residue = kernel.forward(x)
    np.testing.assert_array_equal(y, expected)
    assert y.shape == (*output, channels)
    g = rng.integers(-8, 9, y.shape).astype(np.float64)
    expected_dx = np.zeros_like(x)
    for z, v, u, c in np.ndindex(*y.shape):
        expected_dx[(*sources[z, v, u, c], c)] += g[z, v, u, c]
    np.testing.assert_array_equal(kernel.backward(g, residue, x.shape), expected_dx)


@settings(max_examples=60, deadline=None)
@given(
    size=triples,
    dilation=triples,
    output=triples,
    channels=st.integers(1, 3),
    levels=st.integers(1, 50),
    seed=st.integers(0, 1000),
)
def test_max_filter_is_its_definition(size, dilation, output, channels, levels, seed) -> None:
    _check_maximum(MaxFilter(size, dilation), output, channels, levels, seed)


@settings(max_examples=40, deadline=None)
@given(
    size=triples,
    output=triples,
    channels=st.integers(1, 3),
    levels=st.integers(1, 50),
    seed=st.integers(0, 1000),
)
def test_max_pool_is_its_definition(size, output, channels, levels, seed) -> None:
    _check_maximum(MaxPool(size), output, channels, levels, seed)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_filter_agrees_with_scipy(dtype: type) -> None:
    x = np.random.default_rng(0).normal(size=(9, 10, 11, 2)).astype(dtype)
    size, dilation = (2, 3, 4), (3, 2, 1)
    y, _ = MaxFilter(size, dilation).forward(x)
    footprint = np.zeros([(k - 1) * s + 1 for k, s in zip(size, dilation, strict=True)], bool)
    footprint[:: dilation[0], :: dilation[1], :: dilation[2]] = True
    # scipy centres the window; origin moves its first voxel to the output voxel
    origin = [-(n // 2) for n in footprint.shape]
    for c in range(2):
        full = maximum_filter(x[..., c], footprint=footprint, origin=origin)
        np.testing.assert_array_equal(y[..., c], full[tuple(map(slice, y.shape[:3]))])
    assert y.dtype == dtype


def test_ties_go_to_the_lowest_index() -> None:
    x = np.zeros((3, 3, 3, 1))
    kernel = MaxFilter((3, 3, 3))
    _, residue = kernel.forward(x)
    dx = kernel.backward(np.ones((1, 1, 1, 1)), residue, x.shape)
    assert dx[0, 0, 0, 0] == dx.sum() == 1


def test_not_a_number_is_not_hidden() -> None:
    for at in range(4):
        x = np.arange(4.0).reshape(1, 1, 4, 1)
        x[0, 0, at] = np.nan
        assert np.isnan(MaxPool((1, 1, 4)).forward(x)[0]).all()


@pytest.mark.parametrize(
    ("kernel", "output"),
    [
        (MaxFilter((2, 2, 2), (1, 2, 3)), (7, 6, 5)),
        (MaxPool((1, 2, 3)), (4, 5, 3)),
        (Crop((1, 0, 2)), (5, 4, 4)),
        (Identity(), (5, 4, 4)),
        (Dropout(0.5), (5, 4, 4)),
    ],
)
def test_blocks_make_up_the_whole(kernel: EdgeKernel, output: tuple) -> None:
    """Output regions from their input boxes, gradients added up, are those of the whole map."""
    rng = np.random.default_rng(0)
    whole = tuple(slice(0, n) for n in output)
    input_size = tuple(s.stop for s in kernel.input_box(whole, (0, 0, 0)))
    if isinstance(kernel, Crop):
        input_size = tuple(n + 2 * o for n, o in zip(output, kernel.offset, strict=True))
    x = rng.normal(size=(*input_size, 2))
    g = rng.normal(size=(*output, 2))
    box = kernel.input_box(whole, input_size)
    y, residue = kernel.forward(x[box])
    dx = np.zeros_like(x)
    dx[box] = kernel.backward(g, residue, x[box].shape)
    cuts = [[slice(0, n // 2), slice(n // 2, n)] for n in output]
    total = np.zeros_like(x)
    for block in itertools.product(*cuts):
        box = kernel.input_box(block, input_size)
        part, residue = kernel.forward(x[box])
        np.testing.assert_array_equal(part, y[block])
        total[box] += kernel.backward(g[block], residue, x[box].shape)
    np.testing.assert_allclose(total, dx, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    "kernel",
    [
        MaxFilter((1, 1, 1)),
        MaxFilter((2, 3, 1), (2, 1, 1)),
        MaxFilter((3, 2, 4)),
        MaxPool((2, 2, 4)),
        Crop((1, 1, 1)),
        Identity(),
        Dropout(0.7),
    ],
)
@pytest.mark.parametrize("key", [None, ("dropout", 1, 2)])
def test_gradient_matches_finite_differences(kernel: EdgeKernel, key) -> None:
    rng = np.random.default_rng(0)
    x = rng.permutation(4 * 6 * 8 * 2).reshape(4, 6, 8, 2).astype(np.float64)  # no near ties
    y, residue = kernel.forward(x, key)
    g = rng.normal(size=y.shape)
    dx = kernel.backward(g, residue, x.shape)
    for index in rng.permutation(np.argwhere(np.ones(x.shape)))[:60]:
        shifted = x.copy()
        shifted[tuple(index)] += 0.25
        slope = (g * (kernel.forward(shifted, key)[0] - y)).sum() / 0.25
        assert dx[tuple(index)] == pytest.approx(slope, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    "kernel", [MaxFilter((1, 1, 1)), MaxFilter((2, 2, 2)), Crop((0, 0, 0)), Identity(), Dropout()]
)
def test_results_are_fresh(kernel: EdgeKernel) -> None:
    x = np.ones((4, 4, 4, 1))
    x.flags.writeable = False
    y, residue = kernel.forward(x)
    g = np.ones_like(y)
    g.flags.writeable = False
    dx = kernel.backward(g, residue, x.shape)
    for result in (y, dx):
        assert result.flags.writeable
        assert not np.shares_memory(result, x)
        assert not np.shares_memory(result, g)


def test_dropout_is_a_function_of_its_key() -> None:
    x = np.random.default_rng(0).uniform(1, 2, (8, 30, 30, 4))
    kernel = Dropout(0.8)
    y, _ = kernel.forward(x, ("dropout", 1))
    again, _ = kernel.forward(x, ("dropout", 1))
    other, _ = kernel.forward(x, ("dropout", 2))
    single, _ = kernel.forward(x.astype(np.float32), ("dropout", 1))
    np.testing.assert_array_equal(y, again)
    assert (other != y).any()
    np.testing.assert_array_equal(single == 0, y == 0)
    assert (y != 0).mean() == pytest.approx(0.8, abs=0.01)
    np.testing.assert_allclose(y[y != 0], x[y != 0] / 0.8, rtol=1e-15)
    np.testing.assert_array_equal(kernel.forward(x)[0], x)


def test_maxout() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 3, (3, 4, 5, 2)).astype(np.float64) for _ in range(4)]
    y, winner = maxout(maps)
    stacked = np.stack(maps)
    np.testing.assert_array_equal(y, stacked.max(axis=0))
    np.testing.assert_array_equal(winner, stacked.argmax(axis=0))
    g = rng.normal(size=y.shape)
    for i in range(4):
        np.testing.assert_array_equal(maxout_backward(g, winner, i), g * (winner == i))
    only, winner = maxout(maps[:1])
    np.testing.assert_array_equal(only, maps[0])
    assert not winner.any()


def test_errors() -> None:
    with pytest.raises(
        ValueError, match=r"size=\(1, 2, 2\)\) does not fit an input of \(1, 4, 5\)"
    ):
        MaxPool((1, 2, 2)).forward(np.zeros((1, 4, 5, 1)))
    with pytest.raises(ValueError, match="does not fit an input"):
        MaxFilter((1, 2, 2), (1, 4, 4)).forward(np.zeros((1, 4, 5, 1)))
    with pytest.raises(ValueError, match="1 to 256 voxels"):
        MaxFilter((0, 2, 2))
    with pytest.raises(ValueError, match="dropout ratio 0"):
        Dropout(0)
    with pytest.raises(ValueError, match="one shape"):
        maxout([np.zeros((1, 1, 1, 1)), np.zeros((1, 1, 1, 2))])
