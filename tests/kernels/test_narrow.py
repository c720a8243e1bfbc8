"""Convolution on planes of voxels: against plain sums, and bit for bit the one along channels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.kernels import narrow, narrow_code
from znn_dask.kernels.convolution import make_convolution
from znn_dask.kernels.geometry import whole

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def plain(x, w, g, dilation):
    """y, dx, dw in float64, one tap after the other."""
    x, w, g = (a.astype(np.float64) for a in (x, w, g))
    y, dx, dw = np.zeros(g.shape), np.zeros(x.shape), np.zeros(w.shape)
    for tap in np.ndindex(w.shape[:3]):
        at = tuple(
            slice(d * s, d * s + n) for d, s, n in zip(tap, dilation, g.shape[:3], strict=True)
        )
        flipped = tuple(k - 1 - d for k, d in zip(w.shape[:3], tap, strict=True))
        y += x[at] @ w[flipped]
        dx[at] += g @ w[flipped].T
        dw[flipped] = np.einsum("zyxc,zyxk->ck", x[at], g)
    return y, dx, dw


def problem(output, kernel, dilation, channels, dtype):
    rng = np.random.default_rng(0)
    inputs = tuple(n + (k - 1) * s for n, k, s in zip(output, kernel, dilation, strict=True))
    shapes = ((*inputs, channels[0]), (*kernel, *channels), (*output, channels[1]))
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def triples(*most):
    return st.tuples(*[st.integers(1, n) for n in most])


@settings(max_examples=40, deadline=None)
@given(
    triples(4, 9, 40),
    triples(3, 4, 4),
    triples(2, 3, 8),
    st.sampled_from([(1, 1), (1, 3), (5, 5), (13, 2), (4, 9)]),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
)
def test_every_shape_against_plain_sums(output, kernel, dilation, channels, dtype, by_planes):
    if output[1] * output[2] < narrow_code.voxel_lanes(np.dtype(dtype)):
        output = (output[0], output[1], 16)
    x, w, g = problem(output, kernel, dilation, channels, dtype)
    flipped, size = w[::-1, ::-1, ::-1], x.shape[:3]
    got = (
        narrow.correlate(x, flipped, output, dilation, full=False, by_planes=by_planes),
        narrow.correlate(g, w.swapaxes(3, 4), size, dilation, full=True, by_planes=by_planes),
        narrow.kernel_gradient(x, g, kernel, dilation),
    )
    for name, a, b in zip(("y", "dx", "dw"), got, plain(x, w, g, dilation), strict=True):
        assert a.shape == b.shape, name
        assert a.dtype == dtype, name
        assert a.flags.c_contiguous, name
        assert np.abs(a - b).max() <= TOLERANCE[dtype] * np.abs(b).max(), name


@pytest.mark.parametrize("channels", [(5, 5), (1, 7), (11, 2), (90, 3), (7, 90)])
def test_bits_are_those_of_lanes_along_channels(channels, monkeypatch):
    output, kernel, dilation = (5, 9, 21), (3, 2, 3), (1, 2, 3)
    x, w, g = problem(output, kernel, dilation, channels, np.float32)
    conv = make_convolution("direct", x.shape[:3], kernel, dilation, channels)
    block = whole(output)
    found = conv.forward(x, w, block), conv.input_gradient(g, w, block)
    monkeypatch.setattr(narrow, "suits", lambda *_: False)
    wide = conv.forward(x, w, block), conv.input_gradient(g, w, block)
    for a, b in zip(found, wide, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_kernel_gradient_in_chunks(monkeypatch):
    output, kernel, dilation = (6, 20, 21), (3, 3, 2), (1, 1, 2)
    x, w, g = problem(output, kernel, dilation, (3, 4), np.float64)
    want = plain(x, w, g, dilation)[2]
    for size in (1 << 8, 1 << 13, 1 << 16):
        monkeypatch.setattr(narrow, "_CHUNK_BYTES", size)
        got = narrow.kernel_gradient(x, g, kernel, dilation)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-13 * np.abs(want).max())


def test_what_lies_beyond_a_line_does_not_matter():
    """A not-a-number spoils just the outputs that read it, and no line before or after."""
    output, kernel, dilation = (2, 9, 20), (2, 3, 3), (1, 1, 1)
    x, w, _ = problem(output, kernel, dilation, (2, 3), np.float32)
    x[1, 4, 7, 1] = np.nan
    y = narrow.correlate(x, w, output, dilation, full=False, by_planes=False)
    spoilt = np.zeros(output, bool)
    spoilt[0:2, 2:5, 5:8] = True
    np.testing.assert_array_equal(np.isnan(y).all(axis=3), spoilt)
    np.testing.assert_array_equal(np.isnan(y).any(axis=3), spoilt)


@settings(max_examples=30, deadline=None)
@given(
    triples(3, 4, 9),
    st.sampled_from([(8, 1), (40, 3), (33, 2), (56, 7)]),
    st.sampled_from([np.float32, np.float64]),
)
def test_many_inputs_and_few_outputs(size, channels, dtype):
    x, w, g = problem(size, (1, 1, 1), (1, 1, 1), channels, dtype)
    y = narrow.product(x, w[0, 0, 0])
    want = plain(x, w, g, (1, 1, 1))[0]
    assert np.abs(y - want).max() <= TOLERANCE[dtype] * np.abs(want).max()
    conv = make_convolution("direct", size, (1, 1, 1), (1, 1, 1), channels, dtype)
    middle = (slice(0, size[0]), slice(size[1] // 2, size[1]), slice(0, size[2]))
    np.testing.assert_array_equal(conv.forward(x, w, whole(size)), y)
    np.testing.assert_array_equal(conv.forward(x, w, middle), y[middle])
