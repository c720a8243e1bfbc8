"""Choosing segmentation parameters on a labelled training region."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from znn_dask.data.metadata import VoxelSize
from znn_dask.kernels.geometry import box_shape
from znn_dask.segmentation.alignment import aligned
from znn_dask.segmentation.components import components
from znn_dask.segmentation.contingency import counted
from znn_dask.segmentation.crew import assemble
from znn_dask.segmentation.grid import triple
from znn_dask.segmentation.in_memory import build_hierarchy
from znn_dask.segmentation.maps import (
    Kind,
    OpenedMap,
    Region,
    SegmentationError,
    open_map,
    read_probability,
    resolve_kind,
)
from znn_dask.segmentation.need import Need
from znn_dask.segmentation.parameters import SegmentationParameters
from znn_dask.segmentation.scores import Scores, scores_from_table


@dataclass(frozen=True)
class Search:
    """The best parameters, their scores on the training region, and all that were tried."""

    best: SegmentationParameters
    scores: Scores
    tried: tuple[tuple[SegmentationParameters, Scores], ...]


def best_parameters(
    probability: Any,
    labels: Any,
    *,
    region: Region | str | None = None,
    kind: Kind = "auto",
    start: SegmentationParameters | None = None,
    thresholds: Sequence[float] = (0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    seed_thresholds: Sequence[float] = (0.2, 0.5),
    relabel_components: bool = True,
    dust: int = 0,
    voxel_size: VoxelSize | None = None,
) -> Search:
    """Try a grid of merge and seed thresholds on a labelled region; least adapted Rand error wins.

    Parameters
    ----------
    probability
        As for `segment`.
    labels
        As for `evaluate`, placed alike.
    region
        The training part of the labels, slices z, y, x or text. Choose it apart from what is later
        scored.
    start
        The parameters that are not searched. One watershed and one agglomeration per seed threshold
        serve all merge thresholds, so more of these cost little.
    """
    start = start or SegmentationParameters()
    opened, truth = open_map(probability), open_map(labels)
    if not thresholds or not seed_thresholds:
        raise SegmentationError("no threshold to try; give at least one of each kind")
    resolved = resolve_kind(kind, opened.shape)
    map_box, box = aligned(opened, truth, region)
    need = Need(triple(box_shape(box)), 3, start.landscape(opened.voxel_size))
    need.lanes(need.world, 1, assemble(None, 1, None).memory)
    values = read_probability(opened, resolved, map_box)
    wanted = _truth(truth, box, start.in_plane, relabel_components, dust)
    voxel_size = voxel_size or opened.voxel_size

    tried: list[tuple[SegmentationParameters, Scores]] = []
    for seed_threshold in seed_thresholds:
        widest = replace(start, seed_threshold=seed_threshold, threshold=max(thresholds))
        pieces, hierarchy = build_hierarchy(values, widest, voxel_size=voxel_size)
        table = counted(pieces, wanted)
        for threshold in thresholds:
            objects = hierarchy.cut(threshold, start.minimum_size)
            scores = scores_from_table(table.map(objects=objects), wanted.size)
            tried.append((replace(widest, threshold=threshold), scores))
    best, scores = min(tried, key=lambda one: one[1].adapted_rand_error)
    return Search(best, scores, tuple(tried))


def _truth(labels: OpenedMap, box: Region, in_plane: bool, relabel: bool, dust: int) -> np.ndarray:
    """Labels of the region, split into components and without dust."""
    values = np.asarray(labels.array[box])
    if not (relabel or in_plane):
        return values
    parts = components(values, in_plane)
    sizes = np.bincount(parts.ravel())
    result: np.ndarray = np.where(sizes[parts] < dust, 0, parts)
    return result
