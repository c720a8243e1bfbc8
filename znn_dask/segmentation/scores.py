"""Scores of a segmentation against ground truth, streamed from disk."""

import json
import os
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from znn_dask.segmentation.alignment import aligned
from znn_dask.segmentation.components import ComponentStream
from znn_dask.segmentation.contingency import Contingency, ContingencyStream
from znn_dask.segmentation.maps import (
    OpenedMap,
    Region,
    SegmentationError,
    open_map,
    slab_depth,
)

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
    return float(np.sum(sizes * (sizes - 1)))


def _marginal(ids: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sum of counts per distinct id, index of every row's id in it)."""
    _, index = np.unique(ids, return_inverse=True)
    return np.bincount(index, weights=counts), index


def scores_from_table(
    table: Contingency, voxels: int, *, unlabelled: Unlabelled = "object"
) -> Scores:
    """Scores of a contingency table; rows with label 0 are left out."""
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
        vi_split=float(-np.sum(p * np.log2(in_label))) + 0.0,
        vi_merge=float(-np.sum(p * np.log2(in_object))) + 0.0,
        voxels=voxels,
        foreground=foreground - (without if unlabelled == "ignore" else 0),
        unlabelled=without,
        objects=int(np.count_nonzero(np.unique(table.objects))),
        labels=len(label_sizes),
    )


def _ratio(part: float, whole: float) -> float:
    """part / whole; where there is no pair at all nothing was wrong."""
    return part / whole if whole else 1.0


def _near_boundary(labels: np.ndarray, distance: int, in_plane: bool) -> np.ndarray:
    """Voxels within `distance` steps of a face between two labels (bool, same shape)."""
    near = np.zeros(labels.shape, bool)
    for axis in (1, 2) if in_plane else (0, 1, 2):
        along, ids = np.moveaxis(near, axis, 0), np.moveaxis(labels, axis, 0)
        different = ids[1:] != ids[:-1]
        along[1:] |= different
        along[:-1] |= different
    if distance > 1:
        cross = ndimage.generate_binary_structure(3, 1)
        if in_plane:
            cross[[0, 2]] = False
        near = ndimage.binary_dilation(near, cross, iterations=distance - 1)
    return near


def _integers(values: Any, what: str) -> np.ndarray:
    result = np.asarray(values)
    if result.dtype == bool:
        return result.astype(np.uint8)
    if not np.issubdtype(result.dtype, np.integer):
        raise SegmentationError(f"{what} hold {result.dtype} values; ids are whole numbers")
    return result


def evaluate(
    objects: Any,
    labels: Any,
    *,
    region: Region | str | None = None,
    relabel_components: bool = False,
    dust: int = 0,
    in_plane: bool = False,
    ignore_boundary: int = 0,
    unlabelled: Unlabelled = "object",
    slab_voxels: int = 1 << 24,
) -> Scores:
    """Score objects against ground-truth labels, reading both slab by slab.

    Adapted Rand error after Arganda-Carreras et al. 2015 (Front. Neuroanat. 9:142), over pairs of
    distinct voxels; variation of information after Meila 2007. The error and both entropies equal
    scikit-image's, which however returns precision and recall in each other's place.

    Parameters
    ----------
    objects, labels
        Paths, URLs, Zarr arrays or arrays of ids with axes (z, y, x). Label 0 is background and is
        not scored.
    region
        Part of the labels to score, slices z, y, x or text "0:100,:,190:250". Objects that record
        their position are placed by it, and without a region all that both cover is scored. Of
        others those of the labels' shape are cut alike, and those of the region's shape taken
        whole.
    relabel_components
        First split labels into 26-connected components, as a body that is one outside a crop may
        fall into several pieces inside it.
    dust
        Label components of fewer voxels are taken as background (needs relabel_components or
        in_plane).
    in_plane
        2D scores: labels and objects are first split into the 4-connected components of every
        slice. Masks of cell interiors become labels so.
    ignore_boundary
        Leave out voxels within that many steps of a face between two labels.
    unlabelled
        What object id 0 means inside the foreground: one "object" like any other (as scikit-image
        and CREMI's VI count), "singletons" (every voxel its own object, as SNEMI3D's script
        counts), or "ignore" (not scored).

    Raises
    ------
    SegmentationError
        Where shapes or types do not fit, or nothing is left to score.
    """
    if dust and not (relabel_components or in_plane):
        raise SegmentationError(
            f"dust {dust} removes label components; it needs relabel_components or in_plane"
        )
    opened_objects, opened_labels = open_map(objects), open_map(labels)
    object_box, label_box = aligned(opened_objects, opened_labels, region)
    size = tuple(s.stop - s.start for s in label_box)
    depth = slab_depth(opened_labels.array, size, slab_voxels)

    mode: Literal["slices", "volume"] = "slices" if in_plane else "volume"
    label_parts = ComponentStream(mode) if relabel_components or in_plane else None
    object_parts = ComponentStream(mode) if in_plane else None
    stream = ContingencyStream()
    halo = 0 if in_plane else ignore_boundary
    for start in range(0, size[0], depth):
        stop = min(start + depth, size[0])
        low, high = max(0, start - halo), min(size[0], stop + halo)
        wide = _integers(_slab(opened_labels, label_box, low, high), "labels")
        truth = wide[start - low : start - low + stop - start]
        found = _integers(_slab(opened_objects, object_box, start, stop), "objects")
        keep = truth != 0
        if ignore_boundary:
            near = _near_boundary(wide, ignore_boundary, in_plane)
            keep &= ~near[start - low : start - low + stop - start]
        if label_parts is not None:
            truth = label_parts.add(truth)
        if object_parts is not None:
            found = object_parts.add(found)
        stream.add(found, truth, keep)

    table = stream.table()
    if object_parts is not None:
        table = table.map(objects=object_parts.finish()[0])
    if label_parts is not None:
        final, sizes = label_parts.finish()
        table = table.map(labels=np.where(sizes[final] < dust, 0, final))
    return scores_from_table(table, int(np.prod(size)), unlabelled=unlabelled)


def _slab(opened: OpenedMap, box: Region, start: int, stop: int) -> np.ndarray:
    z, y, x = box
    return np.asarray(opened.array[z.start + start : z.start + stop, y, x])
