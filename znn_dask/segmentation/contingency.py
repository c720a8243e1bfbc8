"""How many voxels every pair (object, label) has in common, collected slab by slab."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Contingency:
    """Sparse table: objects, labels (k,) ids and counts (k,) int64, each pair once."""

    objects: np.ndarray
    labels: np.ndarray
    counts: np.ndarray

    def map(
        self, objects: np.ndarray | None = None, labels: np.ndarray | None = None
    ) -> "Contingency":
        """The table after ids were replaced: new id = table[old id]."""
        return _reduced(
            self.objects if objects is None else objects[self.objects],
            self.labels if labels is None else labels[self.labels],
            self.counts,
        )

    def where(self, keep: np.ndarray) -> "Contingency":
        return Contingency(self.objects[keep], self.labels[keep], self.counts[keep])


def _reduced(objects: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> Contingency:
    """Sum the counts of equal pairs."""
    if not len(counts):
        return Contingency(objects, labels, counts)
    order = np.lexsort((objects, labels))
    objects, labels, counts = objects[order], labels[order], counts[order]
    changes = (objects[1:] != objects[:-1]) | (labels[1:] != labels[:-1])
    first = np.flatnonzero(np.r_[True, changes])
    return Contingency(objects[first], labels[first], np.add.reduceat(counts, first))


class ContingencyStream:
    """Collects slabs; memory grows with the number of distinct pairs, not with the volume."""

    _PENDING = 1 << 22

    def __init__(self) -> None:
        empty = np.zeros(0, np.int64)
        self._table = Contingency(empty.astype(np.uint64), empty.astype(np.uint64), empty)
        self._parts: list[Contingency] = []
        self._rows = 0

    def add(self, objects: np.ndarray, labels: np.ndarray, keep: np.ndarray | None = None) -> None:
        """Count the pairs of two arrays of equal shape, where `keep` (bool) is true."""
        part = _runs(objects.ravel(), labels.ravel(), None if keep is None else keep.ravel())
        self._parts.append(part)
        self._rows += len(part.counts)
        if self._rows > self._PENDING:
            self.table()

    def table(self) -> Contingency:
        if self._parts:
            parts = [self._table, *self._parts]
            self._table = _reduced(
                np.concatenate([p.objects for p in parts]),
                np.concatenate([p.labels for p in parts]),
                np.concatenate([p.counts for p in parts]),
            )
            self._parts, self._rows = [], 0
        return self._table


def _runs(objects: np.ndarray, labels: np.ndarray, keep: np.ndarray | None) -> Contingency:
    """Count pairs by runs of equal neighbours, of which there are far fewer than voxels."""
    if not len(objects):
        empty = np.zeros(0, np.uint64)
        return Contingency(empty, empty, np.zeros(0, np.int64))
    changes = objects[1:] != objects[:-1]
    changes |= labels[1:] != labels[:-1]
    if keep is not None:
        changes |= keep[1:] != keep[:-1]
    start = np.flatnonzero(np.r_[True, changes])
    length = np.diff(np.r_[start, len(objects)])
    if keep is not None:
        kept = keep[start]
        start, length = start[kept], length[kept]
    return _reduced(
        objects[start].astype(np.uint64), labels[start].astype(np.uint64), length.astype(np.int64)
    )
