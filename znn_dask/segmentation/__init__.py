"""Boundary or affinity map -> objects -> scores."""

from znn_dask.segmentation.agglomerate import Hierarchy, agglomerate
from znn_dask.segmentation.baseline import raw_watershed
from znn_dask.segmentation.comparison import evaluate
from znn_dask.segmentation.maps import SegmentationError
from znn_dask.segmentation.region_graph import RegionGraph, region_graph
from znn_dask.segmentation.scores import Scores
from znn_dask.segmentation.segment import SegmentationParameters, segment
from znn_dask.segmentation.tuning import Search, best_parameters
from znn_dask.segmentation.watershed import fragments

__all__ = [
    "Hierarchy",
    "RegionGraph",
    "Scores",
    "Search",
    "SegmentationError",
    "SegmentationParameters",
    "agglomerate",
    "best_parameters",
    "evaluate",
    "fragments",
    "raw_watershed",
    "region_graph",
    "segment",
]
