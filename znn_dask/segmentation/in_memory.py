"""Segmenting a map in memory: the same objects as block by block."""

import numpy as np

from znn_dask.data.metadata import VoxelSize
from znn_dask.segmentation.agglomerate import Hierarchy, agglomerate
from znn_dask.segmentation.maps import Probability
from znn_dask.segmentation.parameters import SegmentationParameters
from znn_dask.segmentation.region_graph import region_graph
from znn_dask.segmentation.watershed import fragments


def segment_array(
    probability: Probability,
    parameters: SegmentationParameters,
    *,
    voxel_size: VoxelSize | None = None,
) -> np.ndarray:
    """Objects (z, y, x) uint32, ids 1..n, of a probability map in memory, as `segment` does."""
    pieces, hierarchy = build_hierarchy(probability, parameters, voxel_size=voxel_size)
    return hierarchy.cut(parameters.threshold, parameters.minimum_size)[pieces]


def build_hierarchy(
    probability: Probability,
    parameters: SegmentationParameters,
    *,
    voxel_size: VoxelSize | None = None,
) -> tuple[np.ndarray, Hierarchy]:
    """Fragments (z, y, x) uint32 and their merges up to `parameters.threshold`."""
    pieces = fragments(
        probability.boundary,
        seed_threshold=parameters.seed_threshold,
        smoothing=parameters.smoothing,
        spacing=parameters.spacing,
        voxel_size=voxel_size,
        in_plane=parameters.in_plane,
    )
    graph = region_graph(pieces, probability, in_plane=parameters.in_plane)
    return pieces, agglomerate(graph, parameters.threshold)
