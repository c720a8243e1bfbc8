"""Convolution by FFT over tiles: overlap-save forward, overlap-add backward.

The map is cut into tiles, each transformed together with the inputs that its outputs read
(`tiles.TileGrid`). Whole-map FFT convolution is the case of one tile. Spectra have axes
(fz, fy, fx, tile, channel), so that the products of a pass are matrix products per frequency::

    input X (.., T, C)    kernels W (.., C, K)    gradient G (.., T, K)
    forward X W           input gradient G W*^T   kernel gradient X*^T G

A tile's outputs are positions k-1 .. edge of its cyclic convolution; what wraps around falls on the
positions before. G is of the output gradient at these same positions and zeros before them, so the
gradients come out in place.

Complex products can be had from real ones, which BLAS does up to twice as fast on small matrices:
with the complex numbers of X read as pairs of reals, X W = X [[re W, im W], [-im W, re W]], and the
transpose of that matrix conjugates. It takes twice the memory for W, so it serves where the kernels
are small beside the maps.
"""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from znn_dask.kernels.fft import irfft, rfft
from znn_dask.kernels.geometry import AxisTiles, Box, Triple, box_shape, dilated_input, whole
from znn_dask.kernels.kernel_transform import KernelTransform
from znn_dask.kernels.memory import ALIGNMENT, aligned, empty, zeros
from znn_dask.kernels.tiles import TileGrid

# Tiles transformed together: long runs of channels, in scratch that is reused.
_PART_BYTES = 1 << 23
_CHUNK_BYTES = 1 << 20  # spectra between two products


@dataclass(frozen=True)
class Tiled:
    """FFT convolution in tiles of `tile` voxels; see `convolution.Convolution`.

    An axis along which the kernel has size 1 is not transformed: its tile edge and dilation are 1.
    Raises ValueError where a tile is smaller than the kernel.
    """

    output_size: Triple
    kernel: Triple
    dilation: Triple
    channels: tuple[int, int]
    dtype: np.dtype[np.floating]
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
    def input_size(self) -> Triple:
        return box_shape(self.input_box(whole(self.output_size)))

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

    @property
    def tiles(self) -> int:
        """Tiles of the whole map, phases included: the T of its spectra."""
        return self.grid.count(self.grid.all)

    @cached_property
    def frequencies(self) -> Triple:
        """Edges of a spectrum: those of the tile, the last transformed axis halved."""
        sizes = list(self.tile)
        if self._transformed:
            sizes[self._transformed[-1]] = sizes[self._transformed[-1]] // 2 + 1
        return (sizes[0], sizes[1], sizes[2])

    @cached_property
    def real_products(self) -> bool:
        """Whether W is kept as the real matrix of twice the size: few kernels beside the tiles, or
        so few that they stay in cache."""
        doubled = 2 * math.prod(self.frequencies) * math.prod(self.channels)
        few = doubled * self._complex.itemsize <= _CHUNK_BYTES
        return few or 2 * max(self.channels) <= self.tiles

    def rows(self) -> tuple[int, int]:
        axis = self.grid.row_axis
        return (axis, self.grid.axes[axis].step)

    def input_box(self, block: Box) -> Box:
        return dilated_input(block, self.kernel, self.dilation)

    # ---- spectra

    def allocate_input_spectrum(self, block: Box | None = None) -> np.ndarray:
        span = self.grid.all if block is None else self.grid.span(block)
        return self._spectrum(self.grid.count(span), self.channels[0])

    def allocate_gradient_spectrum(self) -> np.ndarray:
        return self._spectrum(self.tiles, self.channels[1])

    def allocate_kernel_spectrum(self) -> np.ndarray:
        """(fz, fy, fx, in, out), or with rows W and iW in turn, (fz, fy, fx, 2 in, out)."""
        return self._spectrum(self._rows_of_kernel * self.channels[0], self.channels[1])

    def input_spectrum(self, x: np.ndarray, block: Box, out: np.ndarray) -> None:
        x = aligned(x)
        spectra = self.grid.by_tile(self.grid.of_block(out, block))
        for part, tiles in self.grid.parts(block, self._tiles_at_once(self.channels[0])):
            rfft(self.grid.input_tiles(x, tiles), spectra[:, :, :, *part], self._transformed)

    def gradient_spectrum(self, g: np.ndarray, block: Box, out: np.ndarray) -> None:
        channels = self.channels[1]
        spectra = self.grid.by_tile(self.grid.of_block(out, block))
        for part, tiles in self.grid.parts(block, self._tiles_at_once(channels)):
            buffer = zeros(self.grid.buffer_shape(tiles, channels), self.dtype)
            valid = _positions_first(buffer)[self._valid]
            for at, where, view in self.grid.segments(g, block, tiles):
                valid[*at, *where] = view
            rfft(_positions_first(buffer), spectra[:, :, :, *part], self._transformed)

    def kernel_spectrum(self, w: np.ndarray, channels: slice, out: np.ndarray) -> None:
        part = w[:, :, :, channels]
        kernels = empty((*self.kernel, part.shape[3], self._rows_of_kernel, w.shape[4]), out.dtype)
        kernels[..., 0, :] = part
        if self.real_products:
            np.multiply(part, out.dtype.type(1j), out=kernels[..., 1, :])
        rows = slice(channels.start * self._rows_of_kernel, channels.stop * self._rows_of_kernel)
        self._kernel_transform.forward(kernels, out[:, :, :, rows])

    # ---- products

    def forward(
        self, X: np.ndarray, W: np.ndarray, block: Box, accumulate: np.ndarray | None = None
    ) -> np.ndarray:
        tiles = self.grid.of_block(X, block)
        result = self._spectrum(tiles.shape[3], self.channels[1])
        if self.real_products:
            np.matmul(self._real(tiles), self._real(W), out=self._real(result))
        else:
            np.matmul(tiles, W, out=result)
        if accumulate is None:
            return result
        accumulate += result
        return accumulate

    def output(self, product: np.ndarray, block: Box) -> np.ndarray:
        channels = self.channels[1]
        y = empty((*box_shape(block), channels), self.dtype)
        spectra = self.grid.by_tile(product)
        for part, tiles in self.grid.parts(block, self._tiles_at_once(channels)):
            buffer = empty(self.grid.buffer_shape(tiles, channels), self.dtype)
            irfft(spectra[:, :, :, *part], _positions_first(buffer), self._transformed)
            valid = _positions_first(buffer)[self._valid]
            for at, where, view in self.grid.segments(y, block, tiles):
                view[...] = valid[*at, *where]
        return y

    def input_gradient(self, G: np.ndarray, W: np.ndarray, block: Box) -> np.ndarray:
        channels = self.channels[0]
        spectra = self.grid.by_tile(self._input_gradient_spectrum(G, W, block))
        span = box_shape(self.grid.span(block))
        covered = tuple(axis.extent(n) for axis, n in zip(self.grid.axes, span, strict=True))
        dx = zeros((*covered, channels), self.dtype)
        for part, tiles in self.grid.parts(block, self._tiles_at_once(channels)):
            buffer = empty(self.grid.buffer_shape(tiles, channels), self.dtype)
            irfft(spectra[:, :, :, *part], _positions_first(buffer), self._transformed)
            for view, tile in self.grid.overlapping(dx, buffer, part):
                view += tile
        return dx[whole(box_shape(self.input_box(block)))]

    def kernel_gradient(self, X: np.ndarray, G: np.ndarray, channels: slice) -> np.ndarray:
        part = X[..., channels]
        shape = (part.shape[4], self.channels[1])
        fz, fy, fx = self.frequencies
        count = math.prod(shape)
        spectra = (  # in parts that stay in cache until they are summed over fz
            (f, self._kernel_gradient_spectrum(part[:, f], G[:, f]))
            for f in _ranges(fy, fz * fx * count * X.itemsize)
        )
        return self._kernel_transform.backward(spectra, count).reshape(*self.kernel, *shape)

    def _input_gradient_spectrum(self, G: np.ndarray, W: np.ndarray, block: Box) -> np.ndarray:
        """G W*^T of the block's tiles (fz, fy, fx, T, in)."""
        tiles = self.grid.of_block(G, block)
        result = self._spectrum(tiles.shape[3], self.channels[0])
        gradients, kernels, flat = (
            _flat(a) for a in (tiles, W[..., :: self._rows_of_kernel, :], result)
        )
        for f in _ranges(len(flat), kernels[0].nbytes):
            # Transposed here rather than by BLAS, which is much slower on transposed right sides.
            transposed = _conjugate(kernels[f].swapaxes(1, 2))
            np.matmul(gradients[f], transposed, out=flat[f])
        return result

    def _kernel_gradient_spectrum(self, X: np.ndarray, G: np.ndarray) -> np.ndarray:
        """X*^T G of (.., T, C) and (.., T, K), contiguous (.., C, K)."""
        C, K = X.shape[-1], G.shape[-1]
        result = empty((*X.shape[:3], C, K), X.dtype)
        if not self.real_products:
            np.matmul(_conjugate(X).swapaxes(3, 4), G, out=result)
            return result
        products = empty((*X.shape[:3], 2 * C, K), X.dtype)
        np.matmul(self._real(X).swapaxes(3, 4), self._real(G), out=self._real(products))
        # Rows are re X and im X times G, in turn: X* G is the first minus i times the second.
        np.multiply(products[..., 1::2, :], X.dtype.type(-1j), out=result)
        result += products[..., ::2, :]
        return result

    # ---- shapes and matrices

    @cached_property
    def _transformed(self) -> tuple[int, ...]:
        return tuple(a for a in range(3) if self.tile[a] > 1)

    @cached_property
    def _valid(self) -> tuple[slice, slice, slice]:
        """Positions of a tile's outputs in its cyclic convolution."""
        z, y, x = (slice(k - 1, None) for k in self.kernel)
        return (z, y, x)

    @cached_property
    def _complex(self) -> np.dtype[np.complexfloating]:
        return np.dtype(np.complex64 if self.dtype == np.float32 else np.complex128)

    @property
    def _rows_of_kernel(self) -> int:
        return 2 if self.real_products else 1

    @cached_property
    def _kernel_transform(self) -> KernelTransform:
        return KernelTransform(self.kernel, self.tile, self._transformed[-1], self._complex)

    def _spectrum(self, rows: int, columns: int) -> np.ndarray:
        """Array (fz, fy, fx, rows, columns) in which the matrices of successive frequencies begin
        an odd number of cache lines apart, lest those of one line of frequencies collide."""
        size = rows * columns
        line = ALIGNMENT // self._complex.itemsize
        apart = (-(-size // line) | 1) * line
        padded = empty((*self.frequencies, apart), self._complex)
        return padded[..., :size].reshape(*self.frequencies, rows, columns)

    def _real(self, spectrum: np.ndarray) -> np.ndarray:
        """The same numbers as pairs of reals: (.., columns) to (.., 2 columns)."""
        return spectrum.view(self.dtype)

    def _tiles_at_once(self, channels: int) -> int:
        one = math.prod(self.tile) * math.prod(self.grid.phases) * channels * self.dtype.itemsize
        return _PART_BYTES // one


def _ranges(count: int, each: int) -> Iterator[slice]:
    """0 .. count in ranges of as many items of `each` bytes as a chunk holds, at least one."""
    step = max(1, _CHUNK_BYTES // each)
    return (slice(i, min(i + step, count)) for i in range(0, count, step))


def _flat(spectrum: np.ndarray) -> np.ndarray:
    """View (frequency, rows, columns) of (fz, fy, fx, rows, columns)."""
    return spectrum.reshape(-1, *spectrum.shape[3:])


def _conjugate(array: np.ndarray) -> np.ndarray:
    return np.conjugate(array, out=empty(array.shape, array.dtype))


def _positions_first(buffer: np.ndarray) -> np.ndarray:
    """View (positions, tiles, phases, channel) of (tiles, phases, positions, channel)."""
    return buffer.transpose(6, 7, 8, 0, 1, 2, 3, 4, 5, 9)
