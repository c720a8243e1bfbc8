"""Convolution without transforms, by loops compiled for its channels (see `direct_code`), or on
planes of voxels where these are few (see `narrow`).

Every output is one sum over taps and input channels (of large kernels: a sum of those of its
planes), in one order wherever it is computed. Kernel gradients sum over chunks of voxels that stay
in cache; where they are cut depends on shapes only.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from znn_dask.kernels import direct_code, narrow
from znn_dask.kernels.direct_code import lanes
from znn_dask.kernels.geometry import (
    Box,
    Triple,
    box_shape,
    split,
    whole,
)
from znn_dask.kernels.memory import empty, steps, zeros
from znn_dask.kernels.shape import ConvolutionShape

# Of one chunk of a kernel gradient: its maps should stay in the second-level cache, and short sums
# lose fewer digits.
_CHUNK_BYTES = 1 << 19
_CHUNK_VOXELS = 1 << 13
_LONG_SUM = 512  # products of a plane of taps from which on planes are summed apart


@dataclass(frozen=True)
class Direct(ConvolutionShape):
    """Direct convolution; see `convolution.Convolution`. Spectra are the arrays themselves."""

    @property
    def transforms(self) -> bool:
        return False

    @property
    def signature(self) -> Hashable:
        return ("direct", self.output_size, self.channels[1], self.dtype.char)

    def rows(self) -> tuple[int, int]:
        axis = next((a for a in range(3) if self.output_size[a] > 1), 0)
        return (axis, 1)

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
        x, w, size = self._region(X, self.input_box(block)), W[::-1, ::-1, ::-1], box_shape(block)
        if narrow.suits(self.channels[1], self.kernel, size, self.dtype):
            y = narrow.correlate(x, w, size, self.dilation, full=False, by_planes=_by_planes(w))
        elif narrow.suits_product(*self.channels, self.kernel):
            y = narrow.product(x, w[0, 0, 0])
        else:
            y = self._correlate(x, w, size, (0, 0, 0), x.shape[:3])
        if accumulate is None:
            return y
        accumulate += y
        return accumulate

    def output(self, product: np.ndarray, block: Box) -> np.ndarray:
        return product

    def gradient_spectrum(self, g: np.ndarray, block: Box, out: np.ndarray) -> None:
        out[block] = g

    def input_gradient(self, G: np.ndarray, W: np.ndarray, block: Box) -> np.ndarray:
        g, w, size = G[block], W.swapaxes(3, 4), box_shape(self.input_box(block))
        if narrow.suits(self.channels[0], self.kernel, size, self.dtype):
            return narrow.correlate(g, w, size, self.dilation, full=True, by_planes=_by_planes(w))
        low = tuple((k - 1) * s for k, s in zip(self.kernel, self.dilation, strict=True))
        high = tuple(n + m for n, m in zip(g.shape[:3], low, strict=True))
        if low[2]:
            lines = zeros((*g.shape[:2], high[2] + low[2], self.channels[1]), self.dtype)
            lines[:, :, low[2] : high[2]] = g
            g = lines
        return self._correlate(g, w, size, low, high)

    def kernel_gradient(self, X: np.ndarray, G: np.ndarray, channels: slice) -> np.ndarray:
        x = X[:, :, :, channels]
        inputs, outputs = x.shape[3], self.channels[1]
        if narrow.suits(outputs, self.kernel, self.output_size, self.dtype):
            return narrow.kernel_gradient(x, G, self.kernel, self.dilation)
        whole_voxels = x.strides[2] == inputs * x.itemsize
        if self.kernel == (1, 1, 1) and outputs < narrow.FEW <= inputs and whole_voxels:
            # the same sums with lanes along the inputs
            return self._sum_products(G, x).swapaxes(3, 4).copy()
        return self._sum_products(x, G)

    def _sum_products(self, x: np.ndarray, g: np.ndarray) -> np.ndarray:
        """Kernel gradient (kz, ky, kx, channels of x, channels of g), lanes along the latter."""
        inputs, outputs = x.shape[3], g.shape[3]
        dw = zeros((*self.kernel, inputs, outputs), self.dtype)
        x_strides, g_strides = steps(x), steps(g)
        compiled = direct_code.kernel_gradient(
            *(self.dtype, x_strides[2], inputs, outputs),
            *(*self.kernel[1:], self.dilation[2]),
        )
        voxels = min(_CHUNK_VOXELS, _CHUNK_BYTES // (self.dtype.itemsize * (inputs + outputs)))
        for chunk in split(self.output_size, voxels):
            integers = (
                *(*box_shape(chunk), *self.kernel, *self.dilation[:2]),
                *(*x_strides[:2], *g_strides[:2]),
            )
            starts = (x[self.input_box(chunk)].ctypes.data, g[chunk].ctypes.data)
            compiled.given(integers)(*starts, dw.ctypes.data)
        return dw

    def _correlate(
        self, x: np.ndarray, w: np.ndarray, size: Triple, low: Sequence[int], high: Sequence[int]
    ) -> np.ndarray:
        """y[p] = sum_d x[p + d*s - low] w[d] of `size`, for w (kz, ky, kx, from, to).

        x holds what lies in [low, high); along the last axis it holds the zeros around it too.
        """
        inputs, outputs = w.shape[3:]
        out = lanes(outputs, self.dtype)
        if w.strides[4] != w.itemsize or out.padded > outputs:
            whole_vectors = zeros((*w.shape[:4], out.padded), self.dtype)
            whole_vectors[..., :outputs] = w
            w = whole_vectors
        y = empty((*size, outputs), self.dtype)
        x_strides, w_strides = steps(x), steps(w)
        if w.shape[:3] == (1, 1, 1) and x.flags.c_contiguous:  # one long line
            size = high = (1, 1, math.prod(size))
        block = direct_code.block(out, size[2], w.shape[2], self.dilation[2], low[2], high[2])
        compiled = direct_code.correlate(
            *(self.dtype, x_strides[2], w_strides[3], inputs, outputs, block),
            by_planes=_by_planes(w),
            one_tap=w.shape[:3] == (1, 1, 1),
        )
        start = x.ctypes.data - (low[0] * x.strides[0] + low[1] * x.strides[1])
        integers = (
            *(*size, *w.shape[:3], *low, *high, *self.dilation),
            *(*x_strides[:2], *w_strides[:3]),
        )
        compiled.given(integers)(start, w.ctypes.data, y.ctypes.data)
        return y

    def _region(self, X: np.ndarray, box: Box) -> np.ndarray:
        """`box` of a whole input map, or of one that holds just that box."""
        return X[box] if X.shape[:3] == self.input_size else X[whole(box_shape(box))]


def _by_planes(w: np.ndarray) -> bool:
    """Whether planes of taps of kernels w (kz, ky, kx, from, to) are summed apart."""
    return math.prod(w.shape[1:4]) >= _LONG_SUM
