"""How many voxels every pair (object, label) has in common, collected block by block."""

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

    def above(self, objects: int, labels: int) -> "Contingency":
        """The table with these numbers added to ids that are not 0."""
        return Contingency(
            np.where(self.objects > 0, self.objects + np.uint64(objects), np.uint64(0)),
            np.where(self.labels > 0, self.labels + np.uint64(labels), np.uint64(0)),
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
    """Collects parts; memory grows with the number of distinct pairs, not with the volume."""

    _PENDING = 1 << 22

    def __init__(self) -> None:
        empty = np.zeros(0, np.int64)
        self._table = Contingency(empty.astype(np.uint64), empty.astype(np.uint64), empty)
        self._parts: list[Contingency] = []
        self._rows = 0

    def add(self, part: Contingency) -> None:
        """Add the counts of another part of the volume."""
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


def counted(objects: np.ndarray, labels: np.ndarray, keep: np.ndarray | None = None) -> Contingency:
    """Count the pairs of two arrays of equal shape, where `keep` (bool) is true.

    By runs of equal neighbours, of which there are far fewer than voxels.
    """
    objects, labels = objects.ravel(), labels.ravel()
    keep = None if keep is None else keep.ravel()
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
