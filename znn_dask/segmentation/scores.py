"""Scores of a segmentation against ground truth, from their table of common voxels."""

import json
import math
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from znn_dask.segmentation.contingency import Contingency
from znn_dask.segmentation.maps import SegmentationError

Unlabelled = Literal["object", "singletons", "ignore"]


@dataclass(frozen=True)
class Scores:
    """How well objects agree with labels, over the labels' foreground.

    Attributes
    ----------
    adapted_rand_error
        1 - F1 of pairs of voxels (0 is perfect); precision falls with wrong mergers, recall with
        wrong splits.
    precision, recall
        Of pairs of voxels.
    vi_split, vi_merge
        Variation of information in bits, H(objects | labels), H(labels | objects).
    voxels, foreground, unlabelled
        Voxels compared in all, those of them with a label, which are scored, and those of these
        without an object.
    objects, labels
        How many of them were met in the foreground.
    """

    adapted_rand_error: float
    precision: float
    recall: float
    vi_split: float
    vi_merge: float
    voxels: int
    foreground: int
    unlabelled: int
    objects: int
    labels: int

    @property
    def vi(self) -> float:
        """Variation of information in bits: splits and mergers together."""
        return self.vi_split + self.vi_merge

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"vi": self.vi}, indent=2)

    def write(self, path: str | Path) -> Path:
        """Write the JSON; the file appears complete or not at all."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
        temporary.write_text(self.to_json() + "\n", encoding="utf-8")
        os.replace(temporary, path)
        return path

    def __str__(self) -> str:
        return (
            f"adapted Rand error   {self.adapted_rand_error:.4f}"
            f"  (precision {self.precision:.4f}, recall {self.recall:.4f})\n"
            f"variation of inf.    {self.vi:.3f} bits"
            f"  (split {self.vi_split:.3f}, merge {self.vi_merge:.3f})\n"
            f"objects / labels     {self.objects} / {self.labels}\n"
            f"voxels scored        {self.foreground} of {self.voxels}"
            f"  ({self.unlabelled} without an object)"
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str | None:
        from znn_dask.display.scores import scores_html

        return scores_html(self)


def _pairs(counts: np.ndarray) -> float:
    """Ordered pairs of distinct voxels within groups of these sizes."""
    sizes = counts.astype(np.float64)
    return math.fsum(sizes * (sizes - 1))


def _marginal(ids: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sum of counts per distinct id, index of every row's id in it)."""
    _, index = np.unique(ids, return_inverse=True)
    return np.bincount(index, weights=counts), index


def scores_from_table(
    table: Contingency, voxels: int, *, unlabelled: Unlabelled = "object"
) -> Scores:
    """Scores of a contingency table, in whatever order; rows with label 0 are left out."""
    table = table.where(table.labels != 0)
    foreground = int(table.counts.sum())
    missing = table.objects == 0
    without = int(table.counts[missing].sum())
    if foreground == 0:
        raise SegmentationError("the labels hold no foreground (id above 0) to score; check them")
    if unlabelled == "ignore":
        table = table.where(~missing)
        missing = missing[~missing]
        if not len(table.counts):
            raise SegmentationError("the objects hold no id above 0 within the labels; check them")

    object_sizes, object_index = _marginal(table.objects, table.counts)
    label_sizes, label_index = _marginal(table.labels, table.counts)
    single = missing if unlabelled == "singletons" else np.zeros(len(missing), bool)
    together = _pairs(table.counts[~single])
    in_objects = _pairs(object_sizes)
    if single.any():
        in_objects -= _pairs(object_sizes[np.unique(object_index[single])])
    in_labels = _pairs(label_sizes)

    n = table.counts.sum()
    p = table.counts / n
    # singletons: a voxel on its own is one of n equally small objects
    in_object = np.where(single, 1.0, table.counts / object_sizes[object_index])
    in_label = np.where(
        single, 1 / label_sizes[label_index], table.counts / label_sizes[label_index]
    )
    return Scores(
        adapted_rand_error=1 - _ratio(2 * together, in_objects + in_labels),
        precision=_ratio(together, in_objects),
        recall=_ratio(together, in_labels),
        vi_split=-math.fsum(p * np.log2(in_label)) + 0.0,
        vi_merge=-math.fsum(p * np.log2(in_object)) + 0.0,
        voxels=voxels,
        foreground=foreground - (without if unlabelled == "ignore" else 0),
        unlabelled=without,
        objects=int(np.count_nonzero(np.unique(table.objects))),
        labels=len(label_sizes),
    )


def _ratio(part: float, whole: float) -> float:
    """part / whole; where there is no pair at all nothing was wrong."""
    return part / whole if whole else 1.0
