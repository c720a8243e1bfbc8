"""Convolution without transforms: rows of the input gathered per output voxel, times the kernels.

Work goes through chunks of output voxels whose gathered rows stay in cache. Where the chunks are
cut depends on shapes only.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from znn_dask.kernels.geometry import (
    Box,
    Triple,
    box_shape,
    dilated_input,
    origin,
    split,
    whole,
)
from znn_dask.kernels.memory import empty, zeros

CHUNK_BYTES = 1 << 19
"""Gathered rows of one chunk: they should stay in the second-level cache."""


@dataclass(frozen=True)
class Direct:
    """Direct convolution; see `convolution.Convolution`. Spectra are the arrays themselves."""

    output_size: Triple
    kernel: Triple
    dilation: Triple
    channels: tuple[int, int]
    dtype: np.dtype[np.floating]

    @property
    def transforms(self) -> bool:
        return False

    @property
    def input_size(self) -> Triple:
        return box_shape(self.input_box(whole(self.output_size)))

    @property
    def signature(self) -> Hashable:
        return ("direct", self.output_size, self.channels[1], self.dtype.char)

    @property
    def _taps(self) -> int:
        return math.prod(self.kernel)

    def rows(self) -> tuple[int, int]:
        axis = next((a for a in range(3) if self.output_size[a] > 1), 0)
        return (axis, 1)

    def input_box(self, block: Box) -> Box:
        return dilated_input(block, self.kernel, self.dilation)

    def allocate_input_spectrum(self, block: Box | None = None) -> np.ndarray:
        size = self.input_size if block is None else box_shape(self.input_box(block))
        return empty((*size, self.channels[0]), self.dtype)

    def allocate_gradient_spectrum(self) -> np.ndarray:
        return empty((*self.output_size, self.channels[1]), self.dtype)

    def allocate_kernel_spectrum(self) -> np.ndarray:
        return empty((*self.kernel, *self.channels), self.dtype)

    def input_spectrum(self, x: np.ndarray, block: Box, out: np.ndarray) -> None:
        box = self.input_box(block)
        self._region(out, box)[...] = x[box]

    def kernel_spectrum(self, w: np.ndarray, channels: slice, out: np.ndarray) -> None:
        out[:, :, :, channels] = w[:, :, :, channels]

    def forward(
        self, X: np.ndarray, W: np.ndarray, block: Box, accumulate: np.ndarray | None = None
    ) -> np.ndarray:
        x = self._region(X, self.input_box(block))
        y = self._correlate(x, W[::-1, ::-1, ::-1], box_shape(block))
        if accumulate is None:
            return y
        accumulate += y
        return accumulate

    def output(self, product: np.ndarray, block: Box) -> np.ndarray:
        return product

    def gradient_spectrum(self, g: np.ndarray, block: Box, out: np.ndarray) -> None:
        out[block] = g

    def input_gradient(self, G: np.ndarray, W: np.ndarray, block: Box) -> np.ndarray:
        size = box_shape(self.input_box(block))
        margins = tuple((k - 1) * s for k, s in zip(self.kernel, self.dilation, strict=True))
        padded = zeros(
            (*(n + m for n, m in zip(size, margins, strict=True)), self.channels[1]), self.dtype
        )
        padded[*(slice(m, n) for n, m in zip(size, margins, strict=True))] = G[block]
        return self._correlate(padded, W.swapaxes(3, 4), size)

    def kernel_gradient(self, X: np.ndarray, G: np.ndarray, channels: slice) -> np.ndarray:
        x = X[:, :, :, channels]
        total = zeros((self._taps * x.shape[3], self.channels[1]), self.dtype)
        for chunk in self._chunks(self.output_size, x.shape[3]):
            total += self._gather(x, chunk).T @ G[chunk].reshape(-1, self.channels[1])
        return total.reshape(*self.kernel, -1, self.channels[1])[::-1, ::-1, ::-1].copy()

    def _correlate(self, x: np.ndarray, w: np.ndarray, size: Triple) -> np.ndarray:
        """y[p] = sum_d x[p + d*s] w[d] of `size`, for w (kz, ky, kx, from, to)."""
        kernels = w.reshape(-1, w.shape[4])
        y = empty((*size, w.shape[4]), self.dtype)
        for chunk in self._chunks(size, w.shape[3]):
            gathered = self._gather(x, chunk)
            part = y[chunk]
            if part.flags.c_contiguous:
                np.matmul(gathered, kernels, out=part.reshape(-1, w.shape[4]))
            else:
                part[...] = (gathered @ kernels).reshape(part.shape)
        return y

    def _region(self, X: np.ndarray, box: Box) -> np.ndarray:
        """`box` of a whole input map, or of one that holds just that box."""
        return X[box] if X.shape[:3] == self.input_size else X[whole(box_shape(box))]

    def _chunks(self, size: Triple, channels: int) -> tuple[Box, ...]:
        row = self._taps * channels * self.dtype.itemsize
        return split(size, max(64, CHUNK_BYTES // row))

    def _gather(self, x: np.ndarray, chunk: Box) -> np.ndarray:
        """(voxels of chunk, taps * channels): the inputs that each output voxel reads."""
        channels = x.shape[3]
        size = box_shape(chunk)
        voxels = math.prod(size)
        corner = x[origin(chunk)[0] :, origin(chunk)[1] :, origin(chunk)[2] :]
        steps = corner.strides[:3]
        taps = tuple(step * s for step, s in zip(steps, self.dilation, strict=True))
        if self._taps == 1:
            return x[chunk].reshape(voxels, channels)
        if channels == 1:  # long runs: copy tap by tap, and let the product read it transposed
            window = as_strided(corner, (*self.kernel, *size), (*taps, *steps))
            by_tap = empty(window.shape, x.dtype)
            by_tap[...] = window
            return by_tap.reshape(self._taps, voxels).T
        window = as_strided(
            corner, (*size, *self.kernel, channels), (*steps, *taps, corner.strides[3])
        )
        gathered = empty(window.shape, x.dtype)
        gathered[...] = window
        return gathered.reshape(voxels, self._taps * channels)
