"""Every algorithm against scipy, its adjoints, and itself cut into blocks."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve

from znn_dask.kernels import depth, planes
from znn_dask.kernels.convolution import Convolution, make_convolution
from znn_dask.kernels.geometry import blocks, whole

TOLERANCE = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}


def spread(w, dilation):
    """Kernels with dilation - 1 zeros between their points."""
    sizes = [(k - 1) * s + 1 for k, s in zip(w.shape[:3], dilation, strict=True)]
    out = np.zeros((*sizes, *w.shape[3:]), np.float64)
    out[:: dilation[0], :: dilation[1], :: dilation[2]] = w
    return out


def reference(x, w, g, dilation):
    """y, dx, dw in float64 by scipy."""
    x, w, g = (a.astype(np.float64) for a in (x, w, g))
    big = spread(w, dilation)
    C, K = w.shape[3:]
    y = np.zeros(g.shape)
    dx = np.zeros(x.shape)
    dw = np.zeros(w.shape)
    for c in range(C):
        for k in range(K):
            y[..., k] += convolve(x[..., c], big[..., c, k], "valid", "direct")
            flipped = big[::-1, ::-1, ::-1, c, k]
            dx[..., c] += convolve(g[..., k], flipped, "full", "direct")
            full = convolve(x[::-1, ::-1, ::-1, c], g[..., k], "valid", "direct")
            dw[..., c, k] = full[:: dilation[0], :: dilation[1], :: dilation[2]]
    return y, dx, dw


def run(conv: Convolution, x, w, g, cut: int = 1, channel_step: int | None = None):
    """All of the protocol, the output in `cut` blocks, the input channels in steps."""
    cuts = blocks(conv.output_size, *conv.rows(), cut)
    step = channel_step or conv.channels[0]
    slices = [slice(c, min(c + step, conv.channels[0])) for c in range(0, conv.channels[0], step)]
    X, W, G = (
        conv.allocate_input_spectrum(),
        conv.allocate_kernel_spectrum(),
        conv.allocate_gradient_spectrum(),
    )
    for array in (X, W, G):
        array.fill(np.nan)
    for channels in slices:
        conv.kernel_spectrum(w, channels, W)
    y = np.full(g.shape, np.nan, g.dtype)
    dx = np.zeros(x.shape, x.dtype)
    for block in cuts:
        conv.input_spectrum(x, block, X)
        y[block] = conv.output(conv.forward(X, W, block), block)
        conv.gradient_spectrum(g[block], block, G)
        dx[conv.input_box(block)] += conv.input_gradient(G, W, block)
    dw = np.concatenate([conv.kernel_gradient(X, G, c) for c in slices], axis=3)
    return y, dx, dw


def problem(conv: Convolution, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*conv.input_size, conv.channels[0])).astype(conv.dtype)
    w = rng.standard_normal((*conv.kernel, *conv.channels)).astype(conv.dtype)
    g = rng.standard_normal((*conv.output_size, conv.channels[1])).astype(conv.dtype)
    return x, w, g


def assert_close(got, want, dtype):
    for name, a, b in zip(("y", "dx", "dw"), got, want, strict=True):
        assert a.shape == b.shape, name
        assert a.dtype == dtype, name
        error = np.abs(a - b).max() / np.abs(b).max()
        assert error < TOLERANCE[np.dtype(dtype)], (name, error)


def triples(most):
    return st.tuples(*[st.integers(1, most)] * 3)


@st.composite
def convolutions(draw):
    kernel = draw(triples(4))
    dilation = draw(triples(3))
    output = draw(triples(7))
    planar = draw(st.booleans())
    if planar:
        kernel, dilation = (1, *kernel[1:]), (1, *dilation[1:])
    inputs = tuple(n + (k - 1) * s for n, k, s in zip(output, kernel, dilation, strict=True))
    algorithm = draw(st.sampled_from(["direct", "fft", "tiled"]))
    tile = tuple(k + draw(st.integers(0, 5)) for k in kernel) if algorithm == "tiled" else None
    channels = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return make_convolution(algorithm, inputs, kernel, dilation, channels, dtype, tile)


@settings(max_examples=120, deadline=None)
@given(convolutions(), st.integers(1, 4), st.integers(1, 3))
def test_equals_scipy_however_it_is_cut(conv, cut, channel_step):
    x, w, g = problem(conv)
    got = run(conv, x, w, g, cut, channel_step)
    assert_close(got, reference(x, w, g, conv.dilation), conv.dtype)


CASES = [
    ("direct", (7, 9, 10), (3, 3, 3), (1, 1, 1), None),
    ("direct", (4, 11, 10), (1, 1, 1), (1, 1, 1), None),
    ("direct", (4, 20, 20), (2, 3, 3), (1, 4, 4), None),
    ("fft", (9, 10, 11), (3, 2, 5), (1, 2, 1), None),
    ("fft", (1, 30, 27), (1, 4, 3), (1, 4, 5), None),
    ("fft", (8, 6, 70), (3, 1, 9), (3, 2, 1), None),
    ("tiled", (17, 18, 19), (3, 3, 3), (1, 1, 1), (8, 8, 8)),
    ("tiled", (1, 40, 37), (1, 4, 4), (1, 4, 4), (1, 6, 6)),
    ("tiled", (16, 16, 16), (5, 5, 1), (2, 1, 1), (6, 10, 1)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("algorithm", "size", "kernel", "dilation", "tile"), CASES)
def test_equals_scipy(algorithm, size, kernel, dilation, tile, dtype):
    conv = make_convolution(algorithm, size, kernel, dilation, (3, 4), dtype, tile)
    x, w, g = problem(conv)
    want = reference(x, w, g, dilation)
    assert_close(run(conv, x, w, g), want, dtype)
    assert_close(run(conv, x, w, g, cut=2, channel_step=2), want, dtype)


@pytest.mark.parametrize(("algorithm", "size", "kernel", "dilation", "tile"), CASES[3:])
@pytest.mark.parametrize("channels", [(3, 4), (35, 17), (5, 48), (16, 70)])
def test_few_channels_and_tiles_at_a_time(
    algorithm, size, kernel, dilation, tile, channels, monkeypatch
):
    monkeypatch.setattr(planes, "_LINES_BYTES", 1000)
    monkeypatch.setattr(depth, "_TILES_BYTES", 1000)
    conv = make_convolution(algorithm, size, kernel, dilation, channels, np.float64, tile)
    x, w, g = problem(conv)
    got = run(conv, x, w, g, cut=3, channel_step=13)
    plain = make_convolution("direct", size, kernel, dilation, channels, np.float64)
    assert_close(got, run(plain, x, w, g), np.float64)


@pytest.mark.parametrize("algorithm", ["fft", "tiled"])
def test_spectra_may_be_copied_and_sent(algorithm):
    conv = make_convolution(algorithm, (17, 18, 19), (3, 3, 3), channels=(3, 17), tile=(8, 8, 8))
    x, w, _ = problem(conv)
    block = whole(conv.output_size)
    X, W = conv.allocate_input_spectrum(), conv.allocate_kernel_spectrum()
    copies = X.copy(), W.copy()
    outputs = []
    for a, b in ((X, W), copies):
        conv.input_spectrum(x, block, a)
        conv.kernel_spectrum(w, slice(0, 3), b)
        outputs.append(conv.output(conv.forward(a.copy(), b.copy(), block), block))
    np.testing.assert_array_equal(*outputs)


def test_a_block_of_the_map_is_the_map_bit_for_bit():
    conv = make_convolution("tiled", (30, 18, 19), (3, 3, 3), channels=(3, 17), tile=(8, 8, 8))
    x, w, g = problem(conv)
    for name, a, b in zip(
        ("y", "dw"), run(conv, x, w, g)[::2], run(conv, x, w, g, cut=3)[::2], strict=True
    ):
        np.testing.assert_array_equal(a, b, name)


@pytest.mark.parametrize(("algorithm", "size", "kernel", "dilation", "tile"), CASES)
def test_adjoint(algorithm, size, kernel, dilation, tile):
    conv = make_convolution(algorithm, size, kernel, dilation, (2, 5), np.float64, tile)
    x, w, g = problem(conv)
    y, dx, dw = run(conv, x, w, g)
    assert np.vdot(g, y) == pytest.approx(np.vdot(dx, x), rel=1e-11)
    assert np.vdot(g, y) == pytest.approx(np.vdot(dw, w), rel=1e-11)


@pytest.mark.parametrize(("algorithm", "size", "kernel", "dilation", "tile"), CASES)
def test_threads_and_repetition_give_equal_bits(algorithm, size, kernel, dilation, tile):
    conv = make_convolution(algorithm, size, kernel, dilation, (3, 4), np.float32, tile)
    x, w, g = problem(conv)
    first = run(conv, x, w, g, cut=2)
    for _ in range(2):
        with ThreadPoolExecutor(8) as pool:
            for again in pool.map(lambda _: run(conv, x, w, g, cut=2), range(16)):
                for a, b in zip(first, again, strict=True):
                    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("algorithm", "size", "kernel", "dilation", "tile"), CASES)
def test_spectrum_of_one_block_is_enough_for_forward(algorithm, size, kernel, dilation, tile):
    conv = make_convolution(algorithm, size, kernel, dilation, (3, 4), np.float32, tile)
    x, w, _ = problem(conv)
    whole_x, W = conv.allocate_input_spectrum(), conv.allocate_kernel_spectrum()
    conv.kernel_spectrum(w, slice(0, 3), W)
    for block in blocks(conv.output_size, *conv.rows(), 3):
        own = conv.allocate_input_spectrum(block)
        conv.input_spectrum(x, block, own)
        conv.input_spectrum(x, block, whole_x)
        np.testing.assert_array_equal(
            conv.output(conv.forward(own, W, block), block),
            conv.output(conv.forward(whole_x, W, block), block),
        )


@pytest.mark.parametrize(("algorithm", "size", "kernel", "dilation", "tile"), CASES)
def test_products_of_edges_accumulate(algorithm, size, kernel, dilation, tile):
    a = make_convolution(algorithm, size, kernel, dilation, (3, 4), np.float64, tile)
    b = make_convolution(algorithm, size, kernel, dilation, (2, 4), np.float64, tile)
    assert a.signature == b.signature
    block = whole(a.output_size)
    total, separate = None, 0
    for seed, conv in enumerate((a, b)):
        x, w, _ = problem(conv, seed)
        X, W = conv.allocate_input_spectrum(), conv.allocate_kernel_spectrum()
        conv.input_spectrum(x, block, X)
        conv.kernel_spectrum(w, slice(0, conv.channels[0]), W)
        separate = separate + conv.output(conv.forward(X, W, block), block)
        total = conv.forward(X, W, block, total)
    np.testing.assert_allclose(a.output(total, block), separate, rtol=0, atol=1e-11)


@pytest.mark.parametrize("algorithm", ["fft", "tiled"])
def test_misaligned_input_gives_equal_bits(algorithm):
    conv = make_convolution(
        algorithm, (17, 18, 19), (3, 3, 3), channels=(3, 4), dtype=np.float32, tile=(8, 8, 8)
    )
    x, w, g = problem(conv)
    memory = np.empty(x.nbytes + 4, np.uint8)
    shifted = memory[4:].view(np.float32).reshape(x.shape)
    shifted[...] = x
    for a, b in zip(run(conv, x, w, g), run(conv, shifted, w, g), strict=True):
        np.testing.assert_array_equal(a, b)


def test_errors_name_both_values():
    with pytest.raises(ValueError, match=r"input \(4, 4, 4\) is smaller than kernel \(5, 1, 1\)"):
        make_convolution("direct", (4, 4, 4), (5, 1, 1))
    with pytest.raises(ValueError, match=r"tile \(4, 8, 8\) is smaller than kernel \(5, 5, 5\)"):
        make_convolution("tiled", (9, 9, 9), (5, 5, 5), tile=(4, 8, 8))
    with pytest.raises(ValueError, match="needs a tile"):
        make_convolution("tiled", (9, 9, 9), (5, 5, 5))
    with pytest.raises(ValueError, match="float16"):
        make_convolution("fft", (9, 9, 9), (5, 5, 5), dtype=np.float16)
    conv = make_convolution("tiled", (20, 20, 20), (5, 5, 5), tile=(8, 8, 8))
    with pytest.raises(ValueError, match="cuts through tiles of 4 outputs"):
        conv.allocate_input_spectrum((slice(0, 6), slice(0, 16), slice(0, 16)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [(1, 16), (5, 5), (37, 3), (9, 12), (6, 40), (2, 130)])
def test_direct_loops_of_every_shape(channels, dtype):
    """Partly filled vectors, several groups of them, and blocks of channels of two sizes."""
    for kernel, dilation, size in (
        ((1, 3, 3), (1, 4, 4), (1, 15, 34)),
        ((2, 2, 2), (1, 2, 1), (4, 6, 47)),
        ((1, 1, 1), (1, 1, 1), (2, 3, 11)),
    ):
        conv = make_convolution("direct", size, kernel, dilation, channels, dtype)
        x, w, g = problem(conv)
        want = reference(x, w, g, dilation)
        assert_close(run(conv, x, w, g), want, dtype)
        assert_close(run(conv, x, w, g, cut=3, channel_step=5), want, dtype)


def test_direct_outputs_do_not_depend_on_cuts():
    conv = make_convolution("direct", (9, 12, 31), (3, 3, 3), channels=(11, 20), dtype=np.float32)
    x, w, g = problem(conv)
    whole_y, _, whole_dw = run(conv, x, w, g)
    for cut, channel_step in ((2, 11), (7, 4)):
        y, _, dw = run(conv, x, w, g, cut, channel_step)
        np.testing.assert_array_equal(y, whole_y)
        np.testing.assert_array_equal(dw, whole_dw)
