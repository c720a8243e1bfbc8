"""Convolution by FFT over tiles: overlap-save forward, overlap-add backward.

The map is cut into tiles, each transformed together with the inputs that its outputs read
(`tiles.TileGrid`). Products of a pass are matrix products per frequency, over the tiles T::

    input X (T, C)    kernels W (C, K)    gradient G (T, K)
    forward X W       input gradient G W*^T       kernel gradient X*^T G

A tile's outputs are positions k-1 .. edge of its cyclic convolution; what wraps around falls on the
positions before. G is of the output gradient at these same positions and zeros before them, so the
gradients come out in place.

Spectra are kept half transformed, in the planes across the axis that blocks are cut along, and
products multiply them frequency by frequency of the plane: see `passes`.
"""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from znn_dask.kernels import depth, planes
from znn_dask.kernels.codelets import Points
from znn_dask.kernels.geometry import AxisTiles, Box, Triple, box_shape, whole
from znn_dask.kernels.kernel_planes import Axes, column_blocks, odd_lines, padded
from znn_dask.kernels.memory import aligned_copy, empty, zeros
from znn_dask.kernels.shape import ConvolutionShape
from znn_dask.kernels.tiles import TileGrid

_WORTH_PADDING = 1024  # bytes of a frequency: padding the short ones would cost memory


@dataclass(frozen=True)
class Tiled(ConvolutionShape):
    """FFT convolution in tiles of `tile` voxels; see `convolution.Convolution`.

    An axis along which the kernel has size 1 is not transformed: its tile edge and dilation are 1.
    Raises ValueError where a tile is smaller than the kernel.
    """

    tile: Triple

    def __post_init__(self) -> None:
        if any(t < k for t, k in zip(self.tile, self.kernel, strict=True)):
            raise ValueError(
                f"tile {self.tile} is smaller than kernel {self.kernel}: use a larger tile"
            )
        z, y, x = (1 if k == 1 else t for t, k in zip(self.tile, self.kernel, strict=True))
        object.__setattr__(self, "tile", (z, y, x))

    @property
    def transforms(self) -> bool:
        return True

    @property
    def signature(self) -> Hashable:
        """Products and gradient spectra depend on the cut of the output and the transform."""
        return ("tiled", self.grid.axes, self.channels[1], self.dtype.char)

    @cached_property
    def grid(self) -> TileGrid:
        z, y, x = (
            AxisTiles(n, k, 1 if k == 1 else s, t)
            for n, k, s, t in zip(
                self.output_size, self.kernel, self.dilation, self.tile, strict=True
            )
        )
        return TileGrid((z, y, x))

    @cached_property
    def axes(self) -> Triple:
        """Depth axis, then the axes b and c of a plane, of which the last is halved."""
        depth = self.grid.row_axis
        if self.grid.axes[depth].tiles == 1:  # one tile: any axis that is transformed
            depth = next((a for a in range(3) if self.kernel[a] > 1), 0)
        b, c = (a for a in range(3) if a != depth)
        return (depth, c, b) if self.kernel[c] == 1 else (depth, b, c)

    @cached_property
    def plane_tiles(self) -> int:
        """Tiles of one plane, phases included."""
        return math.prod(
            axis.tiles * axis.phases for axis in (self.grid.axes[a] for a in self.axes[1:])
        )

    @cached_property
    def plane_frequencies(self) -> int:
        """Frequencies of a plane that no others mirror."""
        b, c = self._plane
        return planes.Frequencies(b.edge, c.edge).count

    def rows(self) -> tuple[int, int]:
        axis = self.grid.row_axis
        return (axis, self.grid.axes[axis].step)

    # ---- spectra

    def allocate_input_spectrum(self, block: Box | None = None) -> np.ndarray:
        inputs = self._inputs(whole(self.output_size) if block is None else block)
        return self._half_spectrum(_length(inputs), self.plane_tiles, self.channels[0])

    def allocate_gradient_spectrum(self) -> np.ndarray:
        outputs = self._outputs(whole(self.output_size))
        return self._half_spectrum(_length(outputs), self.plane_tiles, self.channels[1])

    def allocate_kernel_spectrum(self) -> np.ndarray:
        """Room for the kernels, packed for the forward pass and, transposed, for the backward one:
        they are transformed while they are multiplied."""
        return empty((sum(self._packed_sizes),), self.dtype)

    def input_spectrum(self, x: np.ndarray, block: Box, out: np.ndarray) -> None:
        inputs = self._inputs(block)
        x = self._by_axes(x)[inputs]
        planes.forward(self._plane, x, _at(out, inputs), self._points("all"))

    def gradient_spectrum(self, g: np.ndarray, block: Box, out: np.ndarray) -> None:
        outputs = _at(out, self._outputs(block))
        planes.forward(self._plane, self._by_axes(g), outputs, self._points("outputs"))

    def kernel_spectrum(self, w: np.ndarray, channels: slice, out: np.ndarray) -> None:
        w = w.transpose(*self.axes, 3, 4)
        for columns, block in self._forward_kernels(out):
            block[:, :, :, channels, : _length(columns)] = w[:, :, :, channels, columns]
            block[:, :, :, channels, _length(columns) :] = 0
        for columns, block in self._backward_kernels(out):
            first, last = (max(channels.start, columns.start), min(channels.stop, columns.stop))
            part = w[:, :, :, first:last].swapaxes(3, 4)
            block[..., first - columns.start : last - columns.start] = part
            block[..., _length(columns) :] = 0

    # ---- products

    def forward(
        self, X: np.ndarray, W: np.ndarray, block: Box, accumulate: np.ndarray | None = None
    ) -> np.ndarray:
        rows = _length(self._outputs(block))
        result = self._half_spectrum(rows, self.plane_tiles, self.channels[1])
        X = _at(X, self._inputs(block))
        for columns, kernels in self._forward_kernels(W):
            depth.forward(self._axes, X, kernels, result[..., columns])
        if accumulate is None:
            return result
        accumulate += result
        return accumulate

    def output(self, product: np.ndarray, block: Box) -> np.ndarray:
        y = empty((*box_shape(block), self.channels[1]), self.dtype)
        points = self._points("outputs")
        planes.inverse(self._plane, product, self._by_axes(y), points, add=False)
        return y

    def input_gradient(self, G: np.ndarray, W: np.ndarray, block: Box) -> np.ndarray:
        dx = zeros((*box_shape(self.input_box(block)), self.channels[0]), self.dtype)
        rows = _length(self._inputs(block))
        half = self._half_spectrum(rows, self.plane_tiles, self.channels[0])
        G = _at(G, self._outputs(block))
        for columns, kernels in self._backward_kernels(W):
            depth.input_gradient(self._axes, G, kernels, half, columns)
        planes.inverse(self._plane, half, self._by_axes(dx), self._points("all"), add=True)
        return dx

    def kernel_gradient(self, X: np.ndarray, G: np.ndarray, channels: slice) -> np.ndarray:
        rows, columns = _length(channels), self.channels[1]
        dw = empty((*self.kernel, rows, columns), self.dtype)
        for block in column_blocks(self._axes, rows, columns, self.dtype):
            width = padded(_length(block), self.dtype)
            sums = zeros((*(axis.kernel for axis in self._axes), rows, width), self.dtype)
            depth.kernel_gradient(self._axes, X[..., channels], G[..., block], sums)
            dw.transpose(*self.axes, 3, 4)[..., block] = sums[..., : _length(block)]
        return dw

    # ---- packed kernels: blocks of columns one after the other

    def _forward_kernels(self, W: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """(output channels, packed kernels (depth, b, c, in, out)) of each block."""
        yield from self._kernel_blocks(W[: self._packed_sizes[0]], *self.channels)

    def _backward_kernels(self, W: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """(input channels, packed kernels (depth, b, c, out, in)) of each block."""
        yield from self._kernel_blocks(W[self._packed_sizes[0] :], *self.channels[::-1])

    def _kernel_blocks(
        self, W: np.ndarray, rows: int, columns: int
    ) -> Iterator[tuple[slice, np.ndarray]]:
        sizes = [self.kernel[a] for a in self.axes]
        start = 0
        for block in column_blocks(self._axes, rows, columns, self.dtype):
            shape = (*sizes, rows, padded(_length(block), self.dtype))
            stop = start + math.prod(shape)
            yield block, W[start:stop].reshape(shape)
            start = stop

    @property
    def _packed_sizes(self) -> tuple[int, int]:
        """Numbers of the kernels packed for the forward and for the backward pass."""
        taps, (C, K) = math.prod(self.kernel), self.channels
        return (taps * C * padded(K, self.dtype), taps * K * padded(C, self.dtype))

    # ---- shapes

    @property
    def _axes(self) -> Axes:
        depth, b, c = (self.grid.axes[a] for a in self.axes)
        return (depth, b, c)

    @property
    def _plane(self) -> planes.Plane:
        _, b, c = self._axes
        return (b, c)

    def _points(self, which: Literal["all", "outputs"]) -> tuple[Points, Points]:
        """(first, count) of the points of a tile along b and c."""
        b, c = (
            {
                "all": (0, axis.edge),
                "outputs": (axis.kernel - 1, axis.outputs),
            }[which]
            for axis in self._plane
        )
        return (b, c)

    def _outputs(self, block: Box) -> slice:
        """Outputs of `block` along depth. Raises ValueError where it cuts through tiles."""
        self.grid.check(block)
        return block[self.axes[0]]

    def _inputs(self, block: Box) -> slice:
        """Inputs that `block` reads along depth."""
        self.grid.check(block)
        return self.input_box(block)[self.axes[0]]

    def _by_axes(self, array: np.ndarray) -> np.ndarray:
        """View (depth, b, c, channel) of (z, y, x, channel)."""
        if array.dtype != self.dtype or array.strides[3] != array.itemsize:
            array = aligned_copy(array, self.dtype)
        return array.transpose(*self.axes, 3)

    def _half_spectrum(self, depth: int, rows: int, columns: int) -> np.ndarray:
        """Array (frequencies of the plane, depth, 2, rows, columns), see `planes`. In memory the
        planes lie one after the other."""
        item = self.dtype.itemsize
        one, plane = self._apart(rows, columns)
        padded = empty((depth, plane // item), self.dtype)[
            :, : self.plane_frequencies * one // item
        ]
        used = padded.reshape(depth, -1, one // item)[:, :, : 2 * rows * columns]
        return used.reshape(depth, -1, 2, rows, columns).transpose(1, 0, 2, 3, 4)

    def _apart(self, rows: int, columns: int) -> tuple[int, int]:
        """Bytes from one frequency of a plane to the next, and from one plane to the next."""
        one = 2 * rows * columns * self.dtype.itemsize
        if one >= _WORTH_PADDING:
            one = odd_lines(one)
        return one, odd_lines(self.plane_frequencies * one)


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _at(half: np.ndarray, depth: slice) -> np.ndarray:
    """The planes `depth` of a half spectrum of the whole map, or of one that holds only them."""
    return half if half.shape[1] == _length(depth) else half[:, depth]
