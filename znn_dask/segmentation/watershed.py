"""Boundary probability to fragments: a watershed from the centres of cell interiors.

Seeds are the local maxima of the distance to the nearest boundary voxel (Beier et al. 2017,
Nature Methods 14:101), so that a leak in a membrane does not join two fragments: the later
agglomeration decides with the whole contact in view.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cc3d
import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from znn_dask.segmentation.maps import SegmentationError


def _sampling(voxel_size: tuple[float, ...] | None, dimensions: int) -> tuple[float, ...]:
    """Voxel edge lengths in units of the smallest."""
    if voxel_size is None:
        return (1.0,) * dimensions
    used = voxel_size[-dimensions:]
    return tuple(edge / min(used) for edge in used)


def _centres(
    boundary: np.ndarray, threshold: float, spacing: float, sampling: tuple[float, ...]
) -> np.ndarray:
    """Markers (uint32, same shape): local maxima of the smoothed distance to the boundary."""
    interior = boundary < threshold
    if interior.all():
        return np.ones(boundary.shape, np.uint32)
    distance = ndimage.distance_transform_edt(interior, sampling=sampling).astype(np.float32)
    sigma = [spacing / 2 / edge for edge in sampling]
    distance = ndimage.gaussian_filter(distance, sigma)
    window = [2 * max(1, round(spacing / edge)) + 1 for edge in sampling]
    peaks = ndimage.maximum_filter(distance, size=window) == distance
    peaks &= interior
    connectivity = 26 if boundary.ndim == 3 else 8
    return cc3d.connected_components(peaks, connectivity=connectivity, out_dtype=np.uint32)


def _flood(
    boundary: np.ndarray,
    seed_threshold: float,
    smoothing: float,
    spacing: float,
    sampling: tuple[float, ...],
) -> np.ndarray:
    """Fragments (uint32, ids 1..n, no zero) of one volume or one slice."""
    if smoothing > 0:
        boundary = ndimage.gaussian_filter(boundary, [smoothing / edge for edge in sampling])
    markers = _centres(boundary, seed_threshold, spacing, sampling)
    if not markers.any():
        return np.ones(boundary.shape, np.uint32)
    return watershed(boundary, markers.astype(np.int32)).astype(np.uint32)


def fragments(
    boundary: np.ndarray,
    *,
    seed_threshold: float = 0.5,
    smoothing: float = 0.5,
    spacing: float = 2.0,
    voxel_size: tuple[float, float, float] | None = None,
    in_plane: bool = False,
    threads: int | None = None,
    advance: Callable[[float], None] = lambda fraction: None,
) -> np.ndarray:
    """Over-segment a boundary map.

    boundary: (z, y, x) float32, probability of boundary.
    seed_threshold: a voxel below it counts as cell interior when seeds are sought.
    smoothing: sigma of the Gaussian applied to the map, in units of the smallest voxel edge.
    spacing: distance within which only the deepest seed stays, in the same unit.
    voxel_size: (z, y, x) in nm; distances are measured with it.
    in_plane: every slice z by itself, for stacks whose slices are far apart.
    advance: called with finished fractions, which sum to one.

    Returns (z, y, x) uint32 with ids 1..n; no fragment crosses slices when `in_plane`.
    """
    if boundary.ndim != 3:
        raise SegmentationError(f"expected a map with axes z, y, x, got shape {boundary.shape}")
    if not in_plane:
        sampling = _sampling(voxel_size, 3)
        result = _flood(boundary, seed_threshold, smoothing, spacing, sampling)
        advance(1.0)
        return result

    sampling = _sampling(voxel_size, 2)
    result = np.empty(boundary.shape, np.uint32)

    def one(z: int) -> int:
        result[z] = _flood(boundary[z], seed_threshold, smoothing, spacing, sampling)
        advance(1 / len(boundary))
        return int(result[z].max())

    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        counts = list(pool.map(one, range(len(boundary))))
    result += np.cumsum([0, *counts[:-1]], dtype=np.uint32)[:, None, None]
    return result
