"""The division of a map into tiles, and the views of arrays that it gives.

Tiles of all three axes form a grid; in spectra they are flattened in the order (z tile, y tile,
x tile, z phase, y phase, x phase). The first axis that has several tiles is the outermost there, so
that rows of tiles along it, and therefore blocks of output, are contiguous.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.lib.stride_tricks import as_strided

from znn_dask.kernels.geometry import (
    AxisTiles,
    Box,
    Segment,
    Triple,
    box_shape,
    origin,
    shift,
    split,
    whole,
)
from znn_dask.kernels.memory import zeros


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a map along its three axes."""

    axes: tuple[AxisTiles, AxisTiles, AxisTiles]

    @cached_property
    def phases(self) -> Triple:
        z, y, x = (axis.phases for axis in self.axes)
        return (z, y, x)

    @cached_property
    def edges(self) -> Triple:
        z, y, x = (axis.edge for axis in self.axes)
        return (z, y, x)

    @cached_property
    def all(self) -> Box:
        """Every tile, as a box of tile indices."""
        z, y, x = (axis.tiles for axis in self.axes)
        return whole((z, y, x))

    @cached_property
    def row_axis(self) -> int:
        """The first axis that has several tiles."""
        return next((a for a in range(3) if self.axes[a].tiles > 1), 0)

    def span(self, block: Box) -> Box:
        """Tiles that `block` is made of. Raises ValueError where it cuts through tiles."""
        for b, axis in zip(block, self.axes, strict=True):
            if b.start % axis.step or (b.stop % axis.step and b.stop != axis.size):
                raise ValueError(
                    f"block {b.start}:{b.stop} cuts through tiles of {axis.step} outputs: "
                    "cut at multiples of rows()"
                )
        z, y, x = (
            slice(b.start // axis.step, -(-b.stop // axis.step))
            for b, axis in zip(block, self.axes, strict=True)
        )
        return (z, y, x)

    def of_block(self, spectrum: np.ndarray, block: Box) -> np.ndarray:
        """The block's tiles in the spectrum of the whole map, or in one that holds only them."""
        span = self.span(block)
        tiles = self.count(span)
        if spectrum.shape[3] == tiles:
            return spectrum
        axis = self.row_axis
        first = span[axis].start * tiles // (span[axis].stop - span[axis].start)
        return spectrum[:, :, :, first : first + tiles]

    def count(self, span: Box) -> int:
        """Tiles in `span`, each phase counted by itself."""
        return math.prod(box_shape(span)) * math.prod(self.phases)

    def by_tile(self, spectrum: np.ndarray) -> np.ndarray:
        """View (fz, fy, fx, tz, ty, tx, pz, py, px, channel) of a spectrum of whole tile rows."""
        tiles = [axis.tiles for axis in self.axes]
        tiles[self.row_axis] = -1
        return spectrum.reshape(*spectrum.shape[:3], *tiles, *self.phases, spectrum.shape[4])

    def parts(self, block: Box, most: int) -> Iterator[tuple[Box, Box]]:
        """The block's tiles in groups of at most `most` (at least one), each with all its phases:
        (as counted from the block's first tile, as counted from the map's)."""
        span = self.span(block)
        for part in split(box_shape(span), most):
            yield part, shift(part, origin(span))

    def buffer_shape(self, tiles: Box, channels: int) -> tuple[int, ...]:
        """Shape of a buffer of tiles, each contiguous: (tiles, phases, positions, channel)."""
        return (*box_shape(tiles), *self.phases, *self.edges, channels)

    def input_tiles(self, x: np.ndarray, tiles: Box) -> np.ndarray:
        """View (positions, tiles, phases, channel) of the overlapping inputs of `tiles`."""
        starts = tuple(t.start * axis.step for t, axis in zip(tiles, self.axes, strict=True))
        extents = tuple(
            axis.extent(t.stop - t.start) for t, axis in zip(tiles, self.axes, strict=True)
        )
        source = x[*(slice(a, a + n) for a, n in zip(starts, extents, strict=True))]
        if source.shape[:3] != extents:  # tiles reach over the end of the map
            padded = zeros((*extents, x.shape[3]), x.dtype)
            padded[whole((source.shape[0], source.shape[1], source.shape[2]))] = source
            source = padded
        return self._windows(source, (0, 0, 0), self.edges, box_shape(tiles))

    def _windows(self, x: np.ndarray, start: Triple, length: Triple, tiles: Triple) -> np.ndarray:
        """View (positions, tiles, phases, channel) of x: tile i at position p in phase q is voxel
        start + i*step + p*dilation + q, along each axis."""
        steps = x.strides[:3]
        corner = x[start[0] :, start[1] :, start[2] :]
        return as_strided(
            corner,
            (*length, *tiles, *self.phases, x.shape[3]),
            (
                *(s * axis.dilation for s, axis in zip(steps, self.axes, strict=True)),
                *(s * axis.step for s, axis in zip(steps, self.axes, strict=True)),
                *steps,
                x.strides[3],
            ),
        )

    def segments(
        self, y: np.ndarray, block: Box, tiles: Box
    ) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...], np.ndarray]]:
        """(positions in the tile, tiles and phases, view of y of that shape) of all of `tiles`'
        outputs, where y (.., channel) covers `block`."""
        base = tuple(
            t.start * axis.step - b.start
            for b, t, axis in zip(block, tiles, self.axes, strict=True)
        )
        choices = (axis.segments(t.start, t.stop) for t, axis in zip(tiles, self.axes, strict=True))
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

    def overlapping(
        self, dx: np.ndarray, buffer: np.ndarray, part: Box
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(view of dx, tile) of every tile and phase of `part`, in a fixed order, where dx starts
        with the block's first input. Neighbouring views overlap."""
        for index in np.ndindex(buffer.shape[:6]):
            start = (
                (p.start + i) * axis.step + phase
                for p, i, phase, axis in zip(part, index[:3], index[3:], self.axes, strict=True)
            )
            z, y, x = (
                slice(a, a + (axis.edge - 1) * axis.dilation + 1, axis.dilation)
                for a, axis in zip(start, self.axes, strict=True)
            )
            yield dx[z, y, x], buffer[index]


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


def _moved(s: slice, by: int) -> slice:
    return slice(s.start + by, s.stop + by)


def _sides(s: Segment) -> Triple:
    return (s.tiles, s.length, s.phases)
