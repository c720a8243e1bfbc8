"""Compiled functions against the same arithmetic in numpy."""

import numpy as np
import pytest

from znn_dask.kernels.codelets import (
    ALL,
    complex_to_complex,
    complex_to_factor,
    product,
    real_to_half,
)
from znn_dask.kernels.formulas import Formula
from znn_dask.kernels.jit import registers


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 15, 16, 37])
def test_masked_loop_touches_nothing_beyond_its_end(dtype, count):
    real = np.dtype(dtype)
    f = Formula("sum_of_scaled", ("source", "target", "count"), real)
    with f.loop(f["count"], f.lanes) as i:
        mask = f.lanes_below(f["count"] - i)
        x = f.load(f["source"] + i * f.itemsize, mask)
        f.store(x * 0.5 - (x + x * 3.0), f["target"] + i * f.itemsize, mask)
    compiled = f.compile()
    x = np.random.default_rng(0).standard_normal(count).astype(real)
    y = np.full(count + 40, 7, real)
    compiled(source=x.ctypes.data, target=y.ctypes.data, count=count)
    np.testing.assert_allclose(y[:count], -3.5 * x, rtol=1e-6)
    assert (y[count:] == 7).all()
    with pytest.raises(TypeError, match="length"):
        compiled(source=0, target=0, length=0)


def test_equal_sums_are_recorded_once_whatever_their_signs():
    f = Formula("shared", ("source",), np.dtype(np.float32))
    a, b = (f.load(f["source"] + 64 * i) for i in range(2))
    assert (a - b).name == (b - a).name
    assert (-(a + b)).name == (b + a).name
    assert (a * 2.0 + b * 1.0).name == (b * 3.0 + a * 6.0).name
    assert a + 0 is a
    assert a * 0 == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [5, 8, 12])
def test_points_beyond_the_map_are_zero_or_dropped(dtype, n):
    real, rng = np.dtype(dtype), np.random.default_rng(n)
    x = rng.standard_normal((n - 2, 2, 21)).astype(real)
    y = np.full((n, 2, 21), 7, real)
    codelet = complex_to_complex(n, -1, (2, n - 2), (0, n), True, real, inside=False)
    codelet(
        source=x.ctypes.data,
        source_step=x.strides[0],
        source_part=x.strides[1],
        sources=n - 3,
        source_column=0,
        target=y.ctypes.data,
        target_step=y.strides[0],
        target_part=y.strides[1],
        targets=n - 1,
        columns=21,
    )
    padded = np.zeros((n, 21), complex)
    padded[2 : n - 1] = x[: n - 3, 0] + 1j * x[: n - 3, 1]
    want = np.fft.fft(padded, axis=0)
    np.testing.assert_allclose(y[:-1, 0] - 7, want[:-1].real, atol=1e-5)
    np.testing.assert_allclose(y[:-1, 1] - 7, want[:-1].imag, atol=1e-5)
    assert (y[-1] == 7).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns_of_a_line_may_be_gathered(dtype):
    real, n = np.dtype(dtype), 6
    x = np.random.default_rng(0).standard_normal((n, 21, 3)).astype(real)
    y = np.empty((n // 2 + 1, 2, 21), real)
    real_to_half(n, (0, n), real, inside=True, gather=True)(
        source=x.ctypes.data,
        source_step=x.strides[0],
        source_part=0,
        sources=ALL,
        source_column=x.strides[1],
        target=y.ctypes.data,
        target_step=y.strides[0],
        target_part=y.strides[1],
        targets=ALL,
        columns=21,
    )
    want = np.fft.rfft(x[:, :, 0], axis=0)
    np.testing.assert_allclose(y[:, 0] + 1j * y[:, 1], want, atol=1e-5)


@pytest.mark.parametrize("vectors", [1, 2])
@pytest.mark.parametrize("rows", [1, 3, 8, 15])
@pytest.mark.parametrize("add", [False, True])
def test_three_real_products_are_a_complex_one(vectors, rows, add):
    real, terms, rng = np.dtype(np.float64), 5, np.random.default_rng(0)
    columns = vectors * registers().bytes // real.itemsize
    a, b = (
        rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        for shape in ((rows, terms), (terms, columns))
    )
    factors = []
    for z, side in ((a, "left"), (b, "right")):
        source = np.stack([z.real, z.imag])
        target = np.empty((3, *z.shape))
        complex_to_factor(1, (0, 1), side, False, real, inside=True)(
            source=source.ctypes.data,
            source_step=0,
            source_part=source.strides[0],
            sources=ALL,
            source_column=0,
            target=target.ctypes.data,
            target_step=0,
            target_part=target.strides[0],
            targets=ALL,
            columns=z.size,
        )
        factors.append(target)
    left, right = factors
    result = np.full((2, rows, columns), 7.0)
    product(vectors, add, real)(
        left=left.ctypes.data,
        left_part=left.strides[0],
        left_row=left.strides[1],
        left_term=left.strides[2],
        right=right.ctypes.data,
        right_part=right.strides[0],
        right_term=right.strides[1],
        target=result.ctypes.data,
        target_part=result.strides[0],
        target_row=result.strides[1],
        terms=terms,
        rows=rows,
    )
    want = a @ b
    np.testing.assert_allclose(result[0], want.real + 7 * add, atol=1e-12)
    np.testing.assert_allclose(result[1], want.imag + 7 * add, atol=1e-12)
