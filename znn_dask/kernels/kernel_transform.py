"""Transforms of kernels: matrix products, because a kernel is a few points of a tile of zeros.

Per axis a matrix (frequencies, kernel) of roots of unity takes the points of a kernel to its
spectrum over the tile, and one (kernel, frequencies) takes a spectrum back to those points alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from znn_dask.kernels.geometry import Triple
from znn_dask.kernels.memory import empty


@dataclass(frozen=True)
class KernelTransform:
    """Transform of kernels of size `kernel` over tiles with `edges`, and back, each divided by the
    number of points of a tile; only edges[halved] // 2 + 1 frequencies along axis `halved`."""

    kernel: Triple
    edges: Triple
    halved: int
    dtype: np.dtype[np.complexfloating]

    def forward(self, kernels: np.ndarray, out: np.ndarray) -> None:
        """Complex kernels (kz, ky, kx, .., n) to spectra, out (fz, fy, fx, m, n) of any strides but
        the last's, where m is the product of the axes before n."""
        kz, ky, kx = self.kernel
        z, y, x = self._matrices
        fz, fy, fx = (len(matrix) for matrix in self._matrices)
        count = kernels[0, 0, 0].size
        along_x = _matmul(x, kernels.reshape(kz * ky, kx, count))
        along_y = _matmul(y, along_x.reshape(kz, ky, fx * count))
        np.matmul(
            z,
            along_y.reshape(kz, fy * fx, count).transpose(1, 0, 2),
            out=out.reshape(fz, fy * fx, count).transpose(1, 0, 2),
        )

    def backward(self, spectra: Iterator[tuple[slice, np.ndarray]], count: int) -> np.ndarray:
        """Real kernels (kz, ky, kx, count) of spectra (fz, some fy, fx, ..), `count` numbers each,
        given in parts: (their fy, the contiguous part)."""
        kz, ky, kx = self.kernel
        z, y, x = self._inverses
        fy, fx = y.shape[1], x.shape[1]
        along_z = empty((kz, fy, fx, count), self.dtype)
        for part, spectrum in spectra:
            np.matmul(
                z,
                spectrum.reshape(len(spectrum), -1, count).transpose(1, 0, 2),
                out=along_z[:, part].reshape(kz, -1, count).transpose(1, 0, 2),
            )
        along_y = _matmul(y, along_z.reshape(kz, fy, fx * count))
        along_x = _matmul(x, along_y.reshape(kz * ky, fx, count))
        kernels = empty((kz, ky, kx, count), along_x.real.dtype)
        kernels[...] = along_x.real.reshape(kernels.shape)
        return kernels

    @cached_property
    def _matrices(self) -> tuple[np.ndarray, ...]:
        matrices = []
        for axis, (k, t) in enumerate(zip(self.kernel, self.edges, strict=True)):
            frequencies = np.arange(t // 2 + 1 if axis == self.halved else t)
            matrix = np.exp(-2j * np.pi / t * np.outer(frequencies, np.arange(k))) / t
            matrices.append(matrix.astype(self.dtype))
        return tuple(matrices)

    @cached_property
    def _inverses(self) -> tuple[np.ndarray, ...]:
        """On the halved axis each frequency that has a mirror image counts twice; the real part of
        the sum over all axes is then the transform."""
        matrices = [matrix.conj().T for matrix in self._matrices]
        matrices[self.halved][:, 1 : (self.edges[self.halved] + 1) // 2] *= 2
        return tuple(np.ascontiguousarray(matrix) for matrix in matrices)


def _matmul(matrix: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """matrix (m, n) times each of batch (b, n, columns)."""
    out = empty((len(batch), len(matrix), batch.shape[2]), batch.dtype)
    return np.matmul(matrix, batch, out=out)
