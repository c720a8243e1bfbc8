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
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from znn_dask.kernels import depth, kernel_planes, planes
from znn_dask.kernels.codelets import Points
from znn_dask.kernels.geometry import AxisTiles, Box, Triple, box_shape, whole
from znn_dask.kernels.kernel_planes import Axes, odd_lines
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
        """Room for the kernels transformed along one axis: see `kernel_planes`."""
        return kernel_planes.allocate(self._axes, *self.channels, self.dtype)

    def input_spectrum(self, x: np.ndarray, block: Box, out: np.ndarray) -> None:
        inputs = self._inputs(block)
        x = self._by_axes(x)[inputs]
        planes.forward(self._plane, x, _at(out, inputs), self._points["all"])

    def gradient_spectrum(self, g: np.ndarray, block: Box, out: np.ndarray) -> None:
        outputs = _at(out, self._outputs(block))
        planes.forward(self._plane, self._by_axes(g), outputs, self._points["outputs"])

    def kernel_spectrum(self, w: np.ndarray, channels: slice, out: np.ndarray) -> None:
        part = w.transpose(*self.axes, 3, 4)[:, :, :, channels]
        kernel_planes.to_lines(self._axes, part, out[..., channels, :])

    # ---- products

    def forward(
        self, X: np.ndarray, W: np.ndarray, block: Box, accumulate: np.ndarray | None = None
    ) -> np.ndarray:
        rows = _length(self._outputs(block))
        result = self._half_spectrum(rows, self.plane_tiles, self.channels[1])
        depth.forward(self._axes, _at(X, self._inputs(block)), W, result)
        if accumulate is None:
            return result
        accumulate += result
        return accumulate

    def output(self, product: np.ndarray, block: Box) -> np.ndarray:
        y = empty((*box_shape(block), self.channels[1]), self.dtype)
        points = self._points["outputs"]
        planes.inverse(self._plane, product, self._by_axes(y), points, add=False)
        return y

    def input_gradient(self, G: np.ndarray, W: np.ndarray, block: Box) -> np.ndarray:
        dx = zeros((*box_shape(self.input_box(block)), self.channels[0]), self.dtype)
        rows = _length(self._inputs(block))
        half = self._half_spectrum(rows, self.plane_tiles, self.channels[0])
        depth.input_gradient(self._axes, _at(G, self._outputs(block)), W, half)
        planes.inverse(self._plane, half, self._by_axes(dx), self._points["all"], add=True)
        return dx

    def kernel_gradient(self, X: np.ndarray, G: np.ndarray, channels: slice) -> np.ndarray:
        size = (_length(channels), self.channels[1])
        lines = kernel_planes.allocate(self._axes, *size, self.dtype)
        depth.kernel_gradient(self._axes, X[..., channels], G, lines)
        dw = empty((*self.kernel, *size), self.dtype)
        kernel_planes.from_lines(self._axes, lines, dw.transpose(*self.axes, 3, 4))
        return dw

    @property
    def kernel_scratch(self) -> int:
        """Bytes that a product takes for kernels."""
        return kernel_planes.scratch_bytes(self._axes, *self.channels, self.dtype)

    # ---- shapes

    @cached_property
    def _axes(self) -> Axes:
        depth, b, c = (self.grid.axes[a] for a in self.axes)
        return (depth, b, c)

    @cached_property
    def _plane(self) -> planes.Plane:
        _, b, c = self._axes
        return (b, c)

    @cached_property
    def _points(self) -> dict[str, tuple[Points, Points]]:
        """(first, count) of the points of a tile along b and c."""
        b, c = self._plane
        return {
            "all": ((0, b.edge), (0, c.edge)),
            "outputs": ((b.kernel - 1, b.outputs), (c.kernel - 1, c.outputs)),
        }

    def _outputs(self, block: Box) -> slice:
        """Outputs of `block` along depth. Raises ValueError where it cuts through tiles."""
        self.grid.check(block)
        return block[self.axes[0]]

    def _inputs(self, block: Box) -> slice:
        """Inputs that `block` reads along depth."""
        outputs, depth = self._outputs(block), self._axes[0]
        return slice(outputs.start, outputs.stop + (depth.kernel - 1) * depth.dilation)

    def _by_axes(self, array: np.ndarray) -> np.ndarray:
        """View (depth, b, c, channel) of (z, y, x, channel)."""
        if array.dtype != self.dtype or array.strides[3] != array.itemsize:
            array = aligned_copy(array, self.dtype)
        return array.transpose(*self.axes, 3)

    def _half_spectrum(self, depth: int, rows: int, columns: int) -> np.ndarray:
        """Array (frequencies of the plane, depth, 2, rows, columns), see `planes`. In memory the
        planes lie one after the other."""
        item, frequencies = self.dtype.itemsize, self.plane_frequencies
        one = 2 * rows * columns * item  # bytes from one frequency of a plane to the next
        if one >= _WORTH_PADDING:
            one = odd_lines(one)
        plane = odd_lines(frequencies * one)  # from one plane to the next
        strides = (one, plane, rows * columns * item, columns * item, item)
        memory = empty((depth * plane // item,), self.dtype)
        return np.ndarray((frequencies, depth, 2, rows, columns), self.dtype, memory, 0, strides)


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _at(half: np.ndarray, depth: slice) -> np.ndarray:
    """The planes `depth` of a half spectrum of the whole map, or of one that holds only them."""
    return half if half.shape[1] == _length(depth) else half[:, depth]
