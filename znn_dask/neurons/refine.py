"""Fewer triangles and smoother surfaces."""

import threading

import numpy as np
from scipy.sparse import coo_array, diags_array

from znn_dask.neurons.errors import extra

# Taubin's pair of steps: one shrinks, the next, a little longer, swells; so volumes stay.
_SHRINK, _SWELL = 0.5, -0.53
# Triangles to which even a small object is not reduced further.
_FEWEST = 64

_simplifying = threading.Lock()  # the library keeps its mesh in variables of the process


def smooth(vertices: np.ndarray, faces: np.ndarray, rounds: int) -> np.ndarray:
    """Vertices (n, 3) after so many rounds of Taubin smoothing (1995); the volume stays about."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    n = len(vertices)
    ones = np.ones(2 * len(edges), np.float64)
    rows = np.concatenate([edges[:, 0], edges[:, 1]])
    columns = np.concatenate([edges[:, 1], edges[:, 0]])
    links = coo_array((ones, (rows, columns)), shape=(n, n)).tocsr()
    mean = diags_array(1 / np.maximum(links.sum(axis=1), 1)) @ links
    moved = vertices.astype(np.float64)
    for _ in range(rounds):
        for step in (_SHRINK, _SWELL):
            moved += step * (mean @ moved - moved)
    return moved


def simplify(
    vertices: np.ndarray, faces: np.ndarray, factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """About 1 / `factor` of the triangles, by quadric error metrics (Garland and Heckbert 1997)."""
    target = max(_FEWEST, round(len(faces) / factor))
    if target >= len(faces):
        return vertices, faces
    fast = extra("fast_simplification")
    with _simplifying:
        vertices, faces = fast.simplify(
            vertices.astype(np.float64), faces.astype(np.int32), target_count=target
        )
    return vertices, faces.astype(np.uint32)
