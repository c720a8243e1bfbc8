"""Which voxels may be the centre of a patch: every one in a box, or those within a mask."""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.cache import CachedArray
from znn_dask.data.geometry import Box
from znn_dask.kernels.geometry import Triple


@dataclass
class Candidates:
    """Counts the candidates of a box once; the k-th is then found without another search."""

    mask: CachedArray | None
    _ends: dict[tuple[int, ...], NDArray[np.int64]] = field(default_factory=dict)

    def count(self, box: Box) -> int:
        """Candidates in a box (volume coordinates)."""
        if self.mask is None:
            return math.prod(s.stop - s.start for s in box)
        return int(self._counted(self.mask, box)[-1])

    def locate(self, box: Box, k: int) -> Triple:
        """The k-th candidate (z, y, x) of the box, in a fixed order."""
        if self.mask is None:
            return _within(box, k)
        ends = self._counted(self.mask, box)
        at = int(np.searchsorted(ends, k, side="right"))
        before = int(ends[at - 1]) if at else 0
        sides = _sides(box, self.mask.chunks)
        index = np.unravel_index(at, [len(s) for s in sides])
        z, y, x = (side[int(i)] for side, i in zip(sides, index, strict=True))
        inside = np.flatnonzero(self.mask.read((z, y, x)) > 0)
        return _within((z, y, x), int(inside[k - before]))

    def _counted(self, mask: CachedArray, box: Box) -> NDArray[np.int64]:
        """Candidates up to and including each cell of the box."""
        key = tuple(v for s in box for v in (s.start, s.stop))
        if key not in self._ends:
            counts = [np.count_nonzero(mask.read(c) > 0) for c in cells(box, mask.chunks)]
            self._ends[key] = np.cumsum(counts, dtype=np.int64)
        return self._ends[key]


def _within(box: Box, k: int) -> Triple:
    rest, x = divmod(k, box[2].stop - box[2].start)
    z, y = divmod(rest, box[1].stop - box[1].start)
    return (z + box[0].start, y + box[1].start, x + box[2].start)


def _sides(box: Box, chunks: tuple[int, ...]) -> list[list[slice]]:
    """Per axis, the parts of a box that fall into each chunk."""
    return [
        [
            slice(max(s.start, i), min(s.stop, i + c))
            for i in range(s.start - s.start % c, s.stop, c)
        ]
        for s, c in zip(box, chunks[-3:], strict=True)
    ]


def cells(box: Box, chunks: tuple[int, ...]) -> list[Box]:
    """The parts of a box that fall into each chunk, in chunk order."""
    return [(z, y, x) for z, y, x in itertools.product(*_sides(box, chunks))]
