"""A dilated convolution is the dense one on each of its interleaved sub-grids."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.kernels.convolution import make_convolution
from znn_dask.kernels.direct_code import block, lanes
from znn_dask.kernels.geometry import whole

triples = st.tuples(*[st.integers(1, 3)] * 3)
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def passes(algorithm: str, x: np.ndarray, w: np.ndarray, g: np.ndarray, dilation: tuple) -> Arrays:
    """Output, input gradient and kernel gradient of a whole map."""
    kernel, channels = w.shape[:3], w.shape[3:]
    tile = tuple(1 if k == 1 else k + 2 for k in kernel)
    conv = make_convolution(algorithm, x.shape[:3], kernel, dilation, channels, x.dtype, tile)
    all_of_it, inputs = whole(conv.output_size), slice(0, channels[0])
    X, W, G = (
        conv.allocate_input_spectrum(),
        conv.allocate_kernel_spectrum(),
        conv.allocate_gradient_spectrum(),
    )
    conv.input_spectrum(x, all_of_it, X)
    conv.kernel_spectrum(w, inputs, W)
    conv.gradient_spectrum(g, all_of_it, G)
    y = conv.output(conv.forward(X, W, all_of_it), all_of_it)
    return y, conv.input_gradient(G, W, all_of_it), conv.kernel_gradient(X, G, inputs)


@pytest.mark.parametrize("algorithm", ["direct", "fft", "tiled"])
@settings(max_examples=15, deadline=None)
@given(
    kernel=triples,
    dilation=triples,
    output=st.tuples(*[st.integers(1, 6)] * 3),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 1000),
)
def test_dilated_is_dense_on_sub_grids(algorithm, kernel, dilation, output, channels, seed) -> None:
    rng = np.random.default_rng(seed)
    size = tuple(n + (k - 1) * s for n, k, s in zip(output, kernel, dilation, strict=True))
    x = rng.standard_normal((*size, channels[0]))
    w = rng.standard_normal((*kernel, *channels))
    g = rng.standard_normal((*output, channels[1]))
    found = passes(algorithm, x, w, g, dilation)
    y, dx, dw = np.zeros_like(g), np.zeros_like(x), np.zeros_like(w)
    for first in product(*(range(min(s, n)) for s, n in zip(dilation, output, strict=True))):
        grid = tuple(slice(f, None, s) for f, s in zip(first, dilation, strict=True))
        one = tuple(-(-(n - f) // s) for n, f, s in zip(output, first, dilation, strict=True))
        read = tuple(slice(0, n + k - 1) for n, k in zip(one, kernel, strict=True))
        given_x, given_g = x[grid][read].copy(), g[grid].copy()
        y[grid], dense_dx, dense_dw = passes("direct", given_x, w, given_g, (1, 1, 1))
        dx[grid][read] += dense_dx
        dw += dense_dw
    for got, expected in zip(found, (y, dx, dw), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12, rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    outputs=st.integers(1, 60),
    taps=st.integers(1, 7),
    step=st.integers(1, 9),
    channels=st.integers(1, 80),
)
def test_blocks_of_a_line_fit_the_registers(outputs, taps, step, channels) -> None:
    vectors = lanes(channels, np.dtype(np.float32))
    reach = (taps - 1) * step
    forward = block(vectors, outputs, taps, step, 0, outputs + reach)
    backward = block(vectors, outputs + reach, taps, step, reach, reach + outputs)
    assert 1 <= forward <= min(outputs, vectors.sums)
    assert 1 <= backward <= min(outputs + reach, vectors.sums)


def test_blocks_end_where_a_tap_begins() -> None:
    """Each of five taps, eight apart, reads 24 of 56 voxels: blocks of 8 read no zeros, of 28 most
    of the time."""
    vectors = lanes(8, np.dtype(np.float64))
    assert block(vectors, 56, 5, 8, 32, 56) == 8
