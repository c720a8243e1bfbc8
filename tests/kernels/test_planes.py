"""Frequencies of planes, and kernels on their way into products."""

import numpy as np
import pytest

from znn_dask.kernels import kernel_planes
from znn_dask.kernels.geometry import AxisTiles
from znn_dask.kernels.planes import Frequencies


@pytest.mark.parametrize("b", [1, 2, 5, 12])
@pytest.mark.parametrize("c", [1, 2, 3, 8, 9])
def test_every_frequency_is_kept_or_mirrored(b, c):
    frequencies = Frequencies(b, c)
    kept = set()
    for fc in range(frequencies.along_c):
        mirrored = fc == 0 or fc >= frequencies.mirrored
        kept |= {(fb, fc) for fb in range(frequencies.halved if mirrored else b)}
    assert len(kept) == frequencies.count
    assert kept | {(-fb % b, -fc % c) for fb, fc in kept} == {
        (fb, fc) for fb in range(b) for fc in range(c)
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 4, 5, 6, 7), (2, 1, 3, 40, 16)])
def test_lines_of_kernels(shape, dtype):
    """By slices of rows, against numpy; the way back undoes it."""
    real = np.dtype(dtype)
    depth, b, c = (AxisTiles(8, k, 1, k + 3) for k in shape[:3])
    axes = (depth, b, c)
    w = np.random.default_rng(0).standard_normal(shape).astype(real)
    lines = kernel_planes.allocate(axes, *shape[3:], real)
    lines.fill(np.nan)
    for rows in (slice(0, 2), slice(2, shape[3])):
        kernel_planes.to_lines(axes, w[:, :, :, rows], lines[..., rows, :])
    points = depth.edge * b.edge * c.edge
    want = np.fft.rfft(w, c.edge, axis=2).transpose(2, 0, 1, 3, 4) / points
    np.testing.assert_allclose(lines[:, :, :, 0] + 1j * lines[:, :, :, 1], want, atol=1e-6)
    again = np.empty_like(w)
    kernel_planes.from_lines(axes, lines, again)
    np.testing.assert_allclose(again * points * depth.edge * b.edge, w, atol=1e-5)
