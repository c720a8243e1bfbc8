"""Blocks of a volume, and boxes around them.  Pure; no I/O.

Voxels are counted within the volume that is segmented, z, y, x; `world` is its shape.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from znn_dask.kernels.geometry import Box, Triple


def triple(values: Any) -> Triple:
    """(z, y, x) of plain ints."""
    z, y, x = (int(v) for v in values)
    return z, y, x


def make_box(starts: Any, stops: Any) -> Box:
    z, y, x = (slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
    return z, y, x


def grown(box: Box, by: Triple, world: Triple) -> Box:
    """The box with `by` voxels more on every side, as far as the volume goes."""
    return make_box(
        (max(0, s.start - n) for s, n in zip(box, by, strict=True)),
        (min(size, s.stop + n) for s, n, size in zip(box, by, world, strict=True)),
    )


def linear(index: tuple[np.ndarray, ...] | Any, start: Triple, world: Triple) -> np.ndarray:
    """Number of voxels of the volume, in C order: (n,) int64.

    index: coordinates z, y, x in an array that begins at voxel `start`.
    """
    z, y, x = (np.asarray(i, np.int64) + a for i, a in zip(index, start, strict=True))
    result: np.ndarray = (z * world[1] + y) * world[2] + x
    return result


@dataclass(frozen=True)
class Grid:
    """Blocks of equal shape, but for the last of an axis, that tile a volume.

    world: shape of the volume; block: of one block, both z, y, x.
    """

    world: Triple
    block: Triple

    @property
    def counts(self) -> Triple:
        return triple(math.ceil(n / b) for n, b in zip(self.world, self.block, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def at(self, index: int) -> Box:
        """Block number `index`, counted in C order."""
        _, rows, columns = self.counts
        position = (index // (rows * columns), index // columns % rows, index % columns)
        starts = [p * b for p, b in zip(position, self.block, strict=True)]
        stops = (min(a + b, n) for a, b, n in zip(starts, self.block, self.world, strict=True))
        return make_box(starts, stops)

    def meeting(self, box: Box) -> list[int]:
        """Numbers of the blocks that share voxels with a box, ascending."""
        ranges = [
            range(s.start // b, (s.stop - 1) // b + 1) for s, b in zip(box, self.block, strict=True)
        ]
        _, rows, columns = self.counts
        return [
            (i * rows + j) * columns + k for i in ranges[0] for j in ranges[1] for k in ranges[2]
        ]
