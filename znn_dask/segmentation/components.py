"""Connected components of a label volume, block by block.

Every block is looked at with one voxel more on its upper sides. A voxel there has an id in two
blocks, which says that the two are one component: so components join across faces and corners.
"""

from dataclasses import dataclass
from itertools import product

import cc3d
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from znn_dask.kernels.geometry import Triple
from znn_dask.segmentation.grid import Grid

# From a block to those that hold voxels of its upper sides.
_ABOVE = [step for step in product((0, 1), repeat=3) if any(step)]


def components(labels: np.ndarray, in_plane: bool = False) -> np.ndarray:
    """Component of every voxel: (z, y, x) int64 ids 1..n, 0 where the label is 0.

    26-connected components of equal labels; in_plane: 4-connected ones of every slice (a thin
    membrane drawn diagonally still separates).
    """
    if not in_plane:
        return _numbered(labels, 26)
    result = np.zeros(labels.shape, np.int64)
    last = 0
    for plane, ids in zip(labels, result, strict=True):
        ids[:] = _numbered(plane, 4)
        np.add(ids, last, out=ids, where=ids > 0)
        last = max(last, int(ids.max()))
    return result


def _numbered(labels: np.ndarray, connectivity: int) -> np.ndarray:
    ids: np.ndarray = cc3d.connected_components(
        np.ascontiguousarray(labels), connectivity=connectivity, out_dtype=np.uint32
    ).astype(np.int64)
    return ids


@dataclass(frozen=True)
class Sides:
    """What other blocks must know of a block's components.

    sizes: (n + 1,) voxels of each component within the block. low: ids on the block's first layer
    along each axis; high: on the layer after its last one, with one voxel more where there is.
    """

    sizes: np.ndarray
    low: tuple[np.ndarray, np.ndarray, np.ndarray]
    high: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]

    @classmethod
    def of(cls, ids: np.ndarray, block: Triple) -> "Sides":
        """Sides of components (z, y, x) of a block of that shape and its upper layers."""
        z, y, x = (slice(0, n) for n in block)
        inner = ids[z, y, x]
        sizes = np.bincount(inner.ravel(), minlength=int(ids.max()) + 1)
        sizes[0] = 0
        low = [np.take(inner, 0, axis).copy() for axis in range(3)]
        high = [
            np.take(ids, n, axis).copy() if ids.shape[axis] > n else None
            for axis, n in enumerate(block)
        ]
        return cls(sizes, (low[0], low[1], low[2]), (high[0], high[1], high[2]))


class Stitching:
    """Joins the components of blocks, which are added in any order."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._waiting: dict[Triple, tuple[Sides, int]] = {}
        self._unmet: dict[Triple, int] = {}
        self._next = 1
        self._sizes = [np.zeros(1, np.int64)]
        self._pairs = [np.zeros((0, 2), np.int64)]

    def add(self, index: int, sides: Sides) -> int:
        """What to add to the ids of this block's components to tell them from all others."""
        base = self._next - 1
        self._sizes.append(sides.sizes[1:])
        self._next += len(sides.sizes) - 1
        z, y, x = (int(p) for p in np.unravel_index(index, self._grid.counts))
        at = (z, y, x)
        self._waiting[at] = (sides, base)
        neighbours = [
            (s * a, s * b, s * c)
            for a, b, c in _ABOVE
            for s in (1, -1)
            if all(
                0 <= p + s * d < n for p, d, n in zip(at, (a, b, c), self._grid.counts, strict=True)
            )
        ]
        self._unmet[at] = len(neighbours)
        for step in neighbours:
            other = (at[0] + step[0], at[1] + step[1], at[2] + step[2])
            if other in self._waiting:
                lower, upper = (at, other) if sum(step) > 0 else (other, at)
                self._link(lower, upper)
                self._let_go(other)
                self._let_go(at)
        if not neighbours:
            del self._waiting[at]
        return base

    def _let_go(self, at: Triple) -> None:
        self._unmet[at] -= 1
        if not self._unmet[at]:
            del self._waiting[at]

    def _link(self, lower: Triple, upper: Triple) -> None:
        step = [b - a for a, b in zip(lower, upper, strict=True)]
        axis = step.index(1)
        (below, base), (above, other_base) = self._waiting[lower], self._waiting[upper]
        high, low = below.high[axis], above.low[axis]
        if high is None:
            return  # slices by themselves
        others = [d for a, d in enumerate(step) if a != axis]
        theirs = low[tuple(slice(0, 1) if d else slice(None) for d in others)]
        size = theirs.shape
        mine = high[
            tuple(slice(-1, None) if d else slice(0, n) for d, n in zip(others, size, strict=True))
        ]
        both = mine > 0
        pairs = np.stack([mine[both] + base, theirs[both] + other_base], axis=1)
        self._pairs.append(np.unique(pairs, axis=0))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """(final id of every id, voxels of every final id); id 0 is background."""
        pairs = np.concatenate(self._pairs)
        shape = (self._next, self._next)
        links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=shape)
        _, final = connected_components(links, directed=False)
        final = np.where(final == final[0], -1, final)
        _, final = np.unique(final, return_inverse=True)
        return final, np.bincount(final, weights=np.concatenate(self._sizes)).astype(np.int64)
