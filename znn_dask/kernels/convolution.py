"""True, valid, dilated convolution: one protocol for every algorithm.

y[p] = sum_d x[p + d*s] w[k-1-d] for kernel size k and dilation s per axis (ZNN semantics; equal to
scipy.signal.convolve(mode="valid") with the kernel spread out by s), summed over input channels.
The parts are separate so that a pass can keep and share them::

    input_spectrum(x) -> X      kernel_spectrum(w) -> W      forward(X, W) -> product -> output
    gradient_spectrum(g) -> G   input_gradient(G, W) -> dx   kernel_gradient(X, G) -> dw

Maps are (z, y, x, channel), kernels (kz, ky, kx, in, out), channels contiguous. A pass may cut the
output into blocks (at multiples of `rows()`) and input channels into slices, and work on them in
any order and in parallel. The bits depend on these cuts and on nothing else.
"""

from collections.abc import Hashable
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike

from znn_dask.kernels.direct import Direct
from znn_dask.kernels.geometry import Box, Triple
from znn_dask.kernels.tiled import Tiled
from znn_dask.kernels.whole_map import WholeMap

Algorithm = Literal["direct", "fft", "tiled"]


class Convolution(Protocol):
    """The convolution of one edge group: immutable, safe to share between threads."""

    @property
    def input_size(self) -> Triple: ...
    @property
    def output_size(self) -> Triple: ...
    @property
    def kernel(self) -> Triple: ...
    @property
    def dilation(self) -> Triple: ...
    @property
    def channels(self) -> tuple[int, int]:
        """(input, output) channels."""
        ...

    @property
    def dtype(self) -> np.dtype[np.floating]: ...

    @property
    def transforms(self) -> bool:
        """False where spectra are the arrays themselves: then x, w and g may be passed as X, W and
        G, and `forward` returns y, with nothing to fill or to invert."""
        ...

    @property
    def signature(self) -> Hashable:
        """Edges into one node with equal signatures may add products before `output` and share
        one gradient spectrum."""
        ...

    def rows(self) -> tuple[int, int]:
        """(axis, step): outputs may be cut into blocks at multiples of `step` along `axis`."""
        ...

    def input_box(self, block: Box) -> Box:
        """Region of the input map that the output region `block` reads."""
        ...

    def allocate_input_spectrum(self, block: Box | None = None) -> np.ndarray:
        """Room for the input spectrum of the whole map, or of `block` alone (forward only)."""
        ...

    def allocate_gradient_spectrum(self) -> np.ndarray:
        """Room for the gradient spectrum of the whole output."""
        ...

    def allocate_kernel_spectrum(self) -> np.ndarray:
        """Room for the spectra of all kernels."""
        ...

    def input_spectrum(self, x: np.ndarray, block: Box, out: np.ndarray) -> None:
        """Transform what `block` reads of the whole input map x (z, y, x, in) into its part of
        `out`, or into all of it where `out` was allocated for `block` alone."""
        ...

    def kernel_spectrum(self, w: np.ndarray, channels: slice, out: np.ndarray) -> None:
        """Transform kernels w (kz, ky, kx, in, out), of input channels `channels`, into `out`."""
        ...

    def forward(
        self, X: np.ndarray, W: np.ndarray, block: Box, accumulate: np.ndarray | None = None
    ) -> np.ndarray:
        """Product of spectra for `block`, added into `accumulate` where one is given.

        X is the whole input spectrum, or the one of `block` alone.
        """
        ...

    def output(self, product: np.ndarray, block: Box) -> np.ndarray:
        """y of `block` (bz, by, bx, out) from its product, which is destroyed."""
        ...

    def gradient_spectrum(self, g: np.ndarray, block: Box, out: np.ndarray) -> None:
        """Transform the gradient g (bz, by, bx, out) of `block` into its part of `out`."""
        ...

    def input_gradient(self, G: np.ndarray, W: np.ndarray, block: Box) -> np.ndarray:
        """Gradient (.., in) with respect to the region `input_box(block)`, from `block` alone."""
        ...

    def kernel_gradient(self, X: np.ndarray, G: np.ndarray, channels: slice) -> np.ndarray:
        """Gradient (kz, ky, kx, len(channels), out) of the kernels of input channels `channels`."""
        ...


def make_convolution(
    algorithm: Algorithm,
    input_size: Triple,
    kernel: Triple,
    dilation: Triple = (1, 1, 1),
    channels: tuple[int, int] = (1, 1),
    dtype: DTypeLike = np.float32,
    tile: Triple | None = None,
) -> Convolution:
    """The convolution of maps of `input_size` by `algorithm`.

    "fft" transforms whole maps; "tiled" needs `tile`, the transform's edges, where an axis that the
    kernel does not extend along always has edge 1. A 1x1x1 kernel is always direct. Raises
    ValueError where kernel, dilation, tile or dtype do not fit.
    """
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype {np.dtype(dtype)} is not supported: use float32 or float64")
    real: np.dtype[Any] = np.dtype(dtype)
    if min(kernel + dilation + channels) < 1:
        raise ValueError(
            f"kernel {kernel}, dilation {dilation} and channels {channels} must all be at least 1"
        )
    output = tuple(n - (k - 1) * s for n, k, s in zip(input_size, kernel, dilation, strict=True))
    if min(output) < 1:
        raise ValueError(
            f"input {input_size} is smaller than kernel {kernel} at dilation {dilation}: "
            "use a larger patch"
        )
    output_size = (output[0], output[1], output[2])
    if algorithm == "direct" or kernel == (1, 1, 1):
        return Direct(output_size, kernel, dilation, channels, real)
    if algorithm == "fft":
        return WholeMap(output_size, kernel, dilation, channels, real)
    if tile is None:
        raise ValueError("algorithm 'tiled' needs a tile, but tile is None: see default_tile")
    return Tiled(output_size, kernel, dilation, channels, real, tile)
