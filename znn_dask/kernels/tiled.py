"""Convolution by FFT over tiles: overlap-save forward, overlap-add backward.

The map is cut into tiles (`geometry.AxisTiles`), each transformed together with the inputs that its
outputs read. Whole-map FFT convolution is the case of one tile. Spectra have axes
(fz, fy, fx, tile, channel), so that the products of a pass are matrix products per frequency::

    input X (.., T, C)    kernels W (.., C, K)    gradient G (.., T, K)
    forward X W           input gradient G W^T    kernel gradient X^T G

Tiles of the output gradient are transformed *reversed*. With Gr the transform of the reversed tile,
reversed transforms back of Gr W^T and X^T Gr are the gradients: nothing is ever conjugated.

What wraps around in a tile's cyclic convolution is exactly what its valid region leaves out.
"""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import as_strided

from znn_dask.kernels.fft import irfft, rfft
from znn_dask.kernels.geometry import (
    AxisTiles,
    Box,
    Segment,
    Triple,
    box_shape,
    dilated_input,
    origin,
    shift,
    split,
    whole,
)
from znn_dask.kernels.memory import aligned, empty, zeros

_PART_BYTES = 1 << 20  # tiles that are transformed together should stay in the second-level cache


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
        return ("tiled", self._axes, self.channels[1], self.dtype.char)

    def rows(self) -> tuple[int, int]:
        axis = next((a for a in range(3) if self._axes[a].tiles > 1), 0)
        return (axis, self._axes[axis].step)

    def input_box(self, block: Box) -> Box:
        return dilated_input(block, self.kernel, self.dilation)

    @property
    def tiles(self) -> int:
        """Tiles of the whole map, phases included: the T of every spectrum."""
        return self._count(self._tiles)

    @property
    def frequencies(self) -> Triple:
        """Edges of a spectrum, the last transformed axis halved."""
        return self._frequencies

    # ---- spectra

    def allocate_input_spectrum(self, block: Box | None = None) -> np.ndarray:
        span = self._tiles if block is None else self._span(block)
        return self._spectrum(self._count(span), self.channels[0])

    def allocate_gradient_spectrum(self) -> np.ndarray:
        return self._spectrum(self._count(self._tiles), self.channels[1])

    def allocate_kernel_spectrum(self) -> np.ndarray:
        return self._spectrum(*self.channels)

    def input_spectrum(self, x: np.ndarray, block: Box, out: np.ndarray) -> None:
        x = aligned(x)
        spectra = self._by_tile(self._of_block(out, block))
        for part, tiles in self._parts(block, self.channels[0]):
            rfft(self._input_tiles(x, tiles), spectra[:, :, :, *part], self._transformed)

    def gradient_spectrum(self, g: np.ndarray, block: Box, out: np.ndarray) -> None:
        spectra = self._by_tile(self._of_block(out, block))
        for part, tiles in self._parts(block, self.channels[1]):
            buffer = zeros(self._tile_shape(tiles, self.channels[1]), self.dtype)
            reversed_tiles = _positions_first(buffer)[
                *(slice(axis.outputs - 1, None, -1) for axis in self._axes)
            ]
            for at, where, view in self._segments(g, block, tiles):
                reversed_tiles[*at, *where] = view
            rfft(_positions_first(buffer), spectra[:, :, :, *part], self._transformed)

    def kernel_spectrum(self, w: np.ndarray, channels: slice, out: np.ndarray) -> None:
        (kz, ky, kx), (fz, fy, fx) = self.kernel, self._frequencies
        z, y, x = (matrix.T for matrix in self._matrices)
        count = w[0, 0, 0, channels].size
        kernels = w[:, :, :, channels].reshape(kz * ky, kx, count).astype(out.dtype)
        along_x = np.matmul(x, kernels)
        along_y = np.matmul(y, along_x.reshape(kz, ky, fx * count))
        target = out.reshape(fz, fy * fx, *self.channels)[:, :, channels]
        np.matmul(
            z,
            along_y.reshape(kz, fy * fx, count).transpose(1, 0, 2),
            out=target.reshape(fz, fy * fx, count).transpose(1, 0, 2),
        )

    # ---- products

    def forward(
        self, X: np.ndarray, W: np.ndarray, block: Box, accumulate: np.ndarray | None = None
    ) -> np.ndarray:
        tiles = self._of_block(X, block)
        result = empty((*tiles.shape[:4], self.channels[1]), W.dtype)
        np.matmul(tiles, W, out=result)
        if accumulate is None:
            return result
        accumulate += result
        return accumulate

    def output(self, product: np.ndarray, block: Box) -> np.ndarray:
        y = empty((*box_shape(block), self.channels[1]), self.dtype)
        spectra = self._by_tile(product)
        for part, tiles in self._parts(block, self.channels[1]):
            buffer = empty(self._tile_shape(tiles, self.channels[1]), self.dtype)
            irfft(spectra[:, :, :, *part], _positions_first(buffer), self._transformed)
            valid = _positions_first(buffer)[*(slice(axis.kernel - 1, None) for axis in self._axes)]
            for at, where, view in self._segments(y, block, tiles):
                view[...] = valid[*at, *where]
        return y

    def input_gradient(self, G: np.ndarray, W: np.ndarray, block: Box) -> np.ndarray:
        g = self._of_block(G, block)
        result = empty((*g.shape[:4], self.channels[0]), W.dtype)
        np.matmul(g, W.swapaxes(3, 4), out=result)
        spectra = self._by_tile(result)
        span = self._span(block)
        covered = tuple(
            axis.extent(s.stop - s.start) for axis, s in zip(self._axes, span, strict=True)
        )
        dx = zeros((*covered, self.channels[0]), self.dtype)
        for part, tiles in self._parts(block, self.channels[0]):
            buffer = empty(self._tile_shape(tiles, self.channels[0]), self.dtype)
            irfft(spectra[:, :, :, *part], _positions_first(buffer), self._transformed)
            tiles_of_dx = _positions_first(buffer)[::-1, ::-1, ::-1]
            for at, view in self._overlapping(dx, part):
                view += tiles_of_dx[at]
        return dx[whole(box_shape(self.input_box(block)))]

    def kernel_gradient(self, X: np.ndarray, G: np.ndarray, channels: slice) -> np.ndarray:
        (kz, ky, kx), (fz, fy, fx) = self.kernel, self._frequencies
        z, y, x = self._inverses
        x_spectra = X[..., channels].swapaxes(3, 4)
        count = x_spectra.shape[3] * self.channels[1]
        along_z = empty((kz, fy, fx, count), X.dtype)
        room = empty((fz, fx, x_spectra.shape[3], self.channels[1]), X.dtype)
        for f in range(fy):  # what one fy gives stays in cache for the sum over fz
            np.matmul(x_spectra[:, f], G[:, f], out=room)
            np.matmul(
                z,
                room.reshape(fz, fx, count).transpose(1, 0, 2),
                out=along_z[:, f].transpose(1, 0, 2),
            )
        along_y = np.matmul(y, along_z.reshape(kz, fy, fx * count))
        along_x = np.matmul(x, along_y.reshape(kz * ky, fx, count))
        dw = empty((kz, ky, kx, x_spectra.shape[3], self.channels[1]), self.dtype)
        dw[...] = along_x.real.reshape(dw.shape)
        return dw

    # ---- geometry

    @cached_property
    def _axes(self) -> tuple[AxisTiles, AxisTiles, AxisTiles]:
        z, y, x = (
            AxisTiles(n, k, 1 if k == 1 else s, t)
            for n, k, s, t in zip(
                self.output_size, self.kernel, self.dilation, self.tile, strict=True
            )
        )
        return (z, y, x)

    @cached_property
    def _transformed(self) -> tuple[int, ...]:
        return tuple(a for a in range(3) if self.tile[a] > 1)

    @cached_property
    def _frequencies(self) -> Triple:
        sizes = list(self.tile)
        if self._transformed:
            sizes[self._transformed[-1]] = sizes[self._transformed[-1]] // 2 + 1
        return (sizes[0], sizes[1], sizes[2])

    @cached_property
    def _tiles(self) -> Box:
        z, y, x = (axis.tiles for axis in self._axes)
        return whole((z, y, x))

    @cached_property
    def _phases(self) -> Triple:
        z, y, x = (axis.phases for axis in self._axes)
        return (z, y, x)

    @cached_property
    def _complex(self) -> np.dtype[np.complexfloating]:
        return np.dtype(np.complex64 if self.dtype == np.float32 else np.complex128)

    @cached_property
    def _matrices(self) -> tuple[np.ndarray, ...]:
        """Per axis, transform (kernel, frequencies) of a kernel's few points, over the edge."""
        return tuple(
            (np.exp(-2j * np.pi / t * np.outer(np.arange(k), np.arange(f))) / t).astype(
                self._complex
            )
            for t, k, f in zip(self.tile, self.kernel, self._frequencies, strict=True)
        )

    @cached_property
    def _inverses(self) -> tuple[np.ndarray, ...]:
        """Per axis, (kernel, frequencies): points t-1, t-2, .. of the transform back, over t.

        On the halved axis each frequency that has a mirror image counts twice; the sum's real part
        is then the transform.
        """
        matrices = []
        for axis, (t, k, f) in enumerate(
            zip(self.tile, self.kernel, self._frequencies, strict=True)
        ):
            points = t - 1 - np.arange(k)
            matrix = np.exp(2j * np.pi / t * np.outer(points, np.arange(f))) / t
            if axis == self._transformed[-1]:
                matrix[:, 1 : (t + 1) // 2] *= 2
            matrices.append(matrix.astype(self._complex))
        return tuple(matrices)

    def _spectrum(self, rows: int, columns: int) -> np.ndarray:
        return empty((*self._frequencies, rows, columns), self._complex)

    def _span(self, block: Box) -> Box:
        """Tiles that `block` is made of. Raises ValueError where it cuts through tiles."""
        for b, axis in zip(block, self._axes, strict=True):
            if b.start % axis.step or (b.stop % axis.step and b.stop != axis.size):
                raise ValueError(
                    f"block {b.start}:{b.stop} cuts through tiles of {axis.step} outputs: "
                    "cut at multiples of rows()"
                )
        z, y, x = (
            slice(b.start // axis.step, -(-b.stop // axis.step))
            for b, axis in zip(block, self._axes, strict=True)
        )
        return (z, y, x)

    def _of_block(self, spectrum: np.ndarray, block: Box) -> np.ndarray:
        """The block's tiles in the spectrum of the whole map, or in one that holds only them."""
        span = self._span(block)
        tiles = self._count(span)
        if spectrum.shape[3] == tiles:
            return spectrum
        axis = self.rows()[0]
        first = span[axis].start * tiles // (span[axis].stop - span[axis].start)
        return spectrum[:, :, :, first : first + tiles]

    def _count(self, span: Box) -> int:
        return math.prod(box_shape(span)) * math.prod(self._phases)

    def _by_tile(self, spectrum: np.ndarray) -> np.ndarray:
        """View (fz, fy, fx, tz, ty, tx, pz, py, px, channel) of a spectrum of whole tile rows."""
        tiles = [axis.tiles for axis in self._axes]
        tiles[self.rows()[0]] = -1
        return spectrum.reshape(*spectrum.shape[:3], *tiles, *self._phases, spectrum.shape[4])

    def _parts(self, block: Box, channels: int) -> Iterator[tuple[Box, Box]]:
        """Groups of tiles to transform together: (counted from the block's first, absolute)."""
        span = self._span(block)
        one = math.prod(self.tile) * math.prod(self._phases) * channels * self.dtype.itemsize
        for part in split(box_shape(span), _PART_BYTES // one):
            yield part, shift(part, origin(span))

    def _tile_shape(self, tiles: Box, channels: int) -> tuple[int, ...]:
        """Shape of a buffer of tiles, each contiguous: (tiles, phases, positions, channel)."""
        return (*box_shape(tiles), *self._phases, *self.tile, channels)

    def _input_tiles(self, x: np.ndarray, tiles: Box) -> np.ndarray:
        """View (positions, tiles, phases, channel) of the overlapping inputs of `tiles`."""
        starts = tuple(t.start * axis.step for t, axis in zip(tiles, self._axes, strict=True))
        extents = tuple(
            axis.extent(t.stop - t.start) for t, axis in zip(tiles, self._axes, strict=True)
        )
        source = x[*(slice(a, a + n) for a, n in zip(starts, extents, strict=True))]
        if source.shape[:3] != extents:  # tiles reach over the end of the map
            padded = zeros((*extents, x.shape[3]), x.dtype)
            padded[whole((source.shape[0], source.shape[1], source.shape[2]))] = source
            source = padded
        return self._windows(source, (0, 0, 0), self.tile, box_shape(tiles))

    def _windows(self, x: np.ndarray, start: Triple, length: Triple, tiles: Triple) -> np.ndarray:
        """View (positions, tiles, phases, channel) of x: tile i at position p in phase q is voxel
        start + i*step + p*dilation + q, along each axis."""
        steps = x.strides[:3]
        corner = x[start[0] :, start[1] :, start[2] :]
        return as_strided(
            corner,
            (*length, *tiles, *self._phases, x.shape[3]),
            (
                *(s * axis.dilation for s, axis in zip(steps, self._axes, strict=True)),
                *(s * axis.step for s, axis in zip(steps, self._axes, strict=True)),
                *steps,
                x.strides[3],
            ),
        )

    def _segments(
        self, y: np.ndarray, block: Box, tiles: Box
    ) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...], np.ndarray]]:
        """(positions in the tile, tiles and phases, view of y of that shape) of all of `tiles`'
        outputs, where y (.., channel) covers `block`."""
        base = tuple(
            t.start * axis.step - b.start
            for b, t, axis in zip(block, tiles, self._axes, strict=True)
        )
        choices = (
            axis.segments(t.start, t.stop) for t, axis in zip(tiles, self._axes, strict=True)
        )
        for parts in product(*choices):
            corner = y[*(_moved(s.outputs, b) for s, b in zip(parts, base, strict=True))]
            view = corner.reshape(*(n for s in parts for n in _sides(s)), y.shape[3])
            yield (
                tuple(slice(s.first, s.first + s.length) for s in parts),
                (
                    *(slice(s.tile, s.tile + s.tiles) for s in parts),
                    *(slice(0, s.phases) for s in parts),
                ),
                view.transpose(1, 4, 7, 0, 3, 6, 2, 5, 8, 9),
            )

    def _overlapping(
        self, dx: np.ndarray, part: Box
    ) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        """(positions, view of dx) such that no voxel occurs twice in one view."""
        choices = (tuple(range(0, axis.edge, axis.outputs)) for axis in self._axes)
        tiles = box_shape(part)
        for first in product(*choices):
            z, y, x = (
                min(axis.outputs, axis.edge - f) for f, axis in zip(first, self._axes, strict=True)
            )
            a, b, c = (
                p.start * axis.step + f * axis.dilation
                for f, p, axis in zip(first, part, self._axes, strict=True)
            )
            at = tuple(slice(f, f + n) for f, n in zip(first, (z, y, x), strict=True))
            yield at, self._windows(dx, (a, b, c), (z, y, x), tiles)


def whole_map_tile(output_size: Triple, kernel: Triple, dilation: Triple) -> Triple:
    """Transform edges with which every sub-grid of the map is a single tile."""
    z, y, x = (
        1 if k == 1 else fast_size(-(-n // s) + k - 1)
        for n, k, s in zip(output_size, kernel, dilation, strict=True)
    )
    return (z, y, x)


def fast_size(least: int) -> int:
    """Smallest 2^a 3^b 5^c 7^d >= `least`, even where `least` is above 8."""
    size = least
    while not _is_fast(size) or (size > 8 and size % 2):
        size += 1
    return size


def _is_fast(size: int) -> bool:
    for factor in (2, 3, 5, 7):
        while size % factor == 0:
            size //= factor
    return size == 1


def _positions_first(buffer: np.ndarray) -> np.ndarray:
    """View (positions, tiles, phases, channel) of (tiles, phases, positions, channel)."""
    return buffer.transpose(6, 7, 8, 0, 1, 2, 3, 4, 5, 9)


def _moved(s: slice, by: int) -> slice:
    return slice(s.start + by, s.stop + by)


def _sides(s: Segment) -> Triple:
    return (s.tiles, s.length, s.phases)
