"""The floor to beat: a watershed of the raw image, without any learning."""

from collections.abc import Callable

import cc3d
import numpy as np
from scipy import ndimage
from skimage.morphology import h_minima
from skimage.segmentation import watershed

from znn_dask.segmentation.maps import SegmentationError


def _flood_raw(image: np.ndarray, sigma: tuple[float, ...], depth: float) -> np.ndarray:
    """Objects (uint32, ids 1..n) of one volume or slice with dark membranes."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma)
    # 256 levels, membranes high: the flood rises from the bright cell interiors
    low, high = np.percentile(smooth, (0.1, 99.9))
    levels = np.clip((high - smooth) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    connectivity = 26 if image.ndim == 3 else 8
    minima = h_minima(levels, max(1, round(depth * 255)))
    markers = cc3d.connected_components(
        np.ascontiguousarray(minima), connectivity=connectivity, out_dtype=np.uint32
    )
    return watershed(levels, markers.astype(np.int32)).astype(np.uint32)


def raw_watershed(
    image: np.ndarray,
    *,
    sigma: float = 1.5,
    depth: float = 0.3,
    voxel_size: tuple[float, float, float] | None = None,
    in_plane: bool = False,
    advance: Callable[[float], None] = lambda fraction: None,
) -> np.ndarray:
    """Plain watershed of an electron-microscopy image whose membranes are dark.

    image: (z, y, x), any real type. sigma: smoothing in units of the smallest voxel edge.
    depth: markers are the minima (bright cell interiors) deeper than this share of the image's
    range. in_plane: every slice by itself. Returns (z, y, x) uint32, ids 1..n.
    """
    if image.ndim != 3:
        raise SegmentationError(f"expected an image with axes z, y, x, got shape {image.shape}")
    edges = voxel_size or (1.0, 1.0, 1.0)
    if not in_plane:
        result = _flood_raw(image, tuple(sigma * min(edges) / e for e in edges), depth)
        advance(1.0)
        return result
    result = np.empty(image.shape, np.uint32)
    finest = min(edges[1:])
    last = 0
    for z, plane in enumerate(image):
        result[z] = _flood_raw(plane, tuple(sigma * finest / e for e in edges[1:]), depth)
        result[z] += last
        last = int(result[z].max())
        advance(1 / len(image))
    return result
