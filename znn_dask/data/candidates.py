"""Which voxels may be the centre of a patch: every one in a box, or those within a mask."""

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.augmentation import Triple
from znn_dask.data.cache import CachedArray
from znn_dask.data.geometry import Box


@dataclass
class Candidates:
    """Counts the candidates of a box once; the k-th is then found without another search."""

    mask: CachedArray | None
    _cells: dict[tuple[int, ...], tuple[tuple[Box, ...], NDArray[np.int64]]] = field(
        default_factory=dict
    )

    def count(self, box: Box) -> int:
        """Candidates in a box (volume coordinates)."""
        if self.mask is None:
            return int(np.prod([s.stop - s.start for s in box]))
        _, ends = self._counted(box)
        return int(ends[-1])

    def locate(self, box: Box, k: int) -> Triple:
        """The k-th candidate (z, y, x) of the box, in a fixed order."""
        if self.mask is None:
            return _within(box, k)
        parts, ends = self._counted(box)
        at = int(np.searchsorted(ends, k, side="right"))
        before = int(ends[at - 1]) if at else 0
        inside = np.flatnonzero(self.mask.read(parts[at]) > 0)
        return _within(parts[at], int(inside[k - before]))

    def _counted(self, box: Box) -> tuple[tuple[Box, ...], NDArray[np.int64]]:
        assert self.mask is not None
        key = tuple(v for s in box for v in (s.start, s.stop))
        if key not in self._cells:
            parts = tuple(cells(box, self.mask.chunks))
            counts = [np.count_nonzero(self.mask.read(part) > 0) for part in parts]
            self._cells[key] = parts, np.cumsum(counts, dtype=np.int64)
        return self._cells[key]


def _within(box: Box, k: int) -> Triple:
    shape = tuple(s.stop - s.start for s in box)
    z, y, x = (int(i) + s.start for i, s in zip(np.unravel_index(k, shape), box, strict=True))
    return (z, y, x)


def cells(box: Box, chunks: tuple[int, ...]) -> list[Box]:
    """The parts of a box that fall into each chunk, in chunk order."""
    spans = [
        [
            slice(max(s.start, i), min(s.stop, i + c))
            for i in range(s.start - s.start % c, s.stop, c)
        ]
        for s, c in zip(box, chunks[-3:], strict=True)
    ]
    return [(z, y, x) for z, y, x in itertools.product(*spans)]
