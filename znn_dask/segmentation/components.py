"""Connected components of a label volume that arrives slab by slab."""

from typing import Literal

import cc3d
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Mode = Literal["volume", "slices"]


class ComponentStream:
    """Gives every slab provisional component ids, and at the end what they have become.

    `volume`: 26-connected components of equal non-zero labels across all slabs. `slices`:
    4-connected components of every slice (a thin membrane drawn diagonally still separates).
    """

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._next = 1
        self._sizes: list[np.ndarray] = [np.zeros(1, np.int64)]
        self._pairs: list[np.ndarray] = [np.zeros((0, 2), np.int64)]
        self._labels: np.ndarray | None = None
        self._ids: np.ndarray | None = None

    def add(self, labels: np.ndarray) -> np.ndarray:
        """Provisional ids (int64, 0 where the label is 0) of the next slab (z, y, x)."""
        if self._mode == "slices":
            return np.stack([self._number(plane, 4) for plane in labels])
        ids = self._number(labels, 26)
        if self._labels is not None and self._ids is not None:
            self._pairs.append(_links(self._labels, self._ids, labels[0], ids[0]))
        self._labels, self._ids = labels[-1].copy(), ids[-1].copy()
        return ids

    def _number(self, labels: np.ndarray, connectivity: int) -> np.ndarray:
        local = cc3d.connected_components(
            np.ascontiguousarray(labels), connectivity=connectivity, out_dtype=np.uint32
        ).astype(np.int64)
        sizes = np.bincount(local.ravel())
        sizes[0] = 0
        self._sizes.append(sizes[1:])
        np.add(local, self._next - 1, out=local, where=local > 0)
        self._next += len(sizes) - 1
        return local

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """(final id of every provisional id, voxels of every final id); id 0 is background."""
        pairs = np.concatenate(self._pairs)
        shape = (self._next, self._next)
        links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=shape)
        _, final = connected_components(links, directed=False)
        background = final[0]
        final = np.where(final == background, -1, final)
        _, final = np.unique(final, return_inverse=True)
        return final, np.bincount(final, weights=np.concatenate(self._sizes)).astype(np.int64)


def _links(
    labels: np.ndarray, ids: np.ndarray, next_labels: np.ndarray, next_ids: np.ndarray
) -> np.ndarray:
    """Pairs of provisional ids that touch between two neighbouring slices (9 directions)."""
    found = []
    rows, columns = labels.shape
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            here = (_overlap(dy, rows), _overlap(dx, columns))
            there = (_overlap(-dy, rows), _overlap(-dx, columns))
            same = (labels[here] == next_labels[there]) & (labels[here] != 0)
            pairs = np.stack([ids[here][same], next_ids[there][same]], axis=1)
            if len(pairs):
                found.append(np.unique(pairs, axis=0))
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def _overlap(shift: int, size: int) -> slice:
    return slice(max(0, shift), size + min(0, shift))
