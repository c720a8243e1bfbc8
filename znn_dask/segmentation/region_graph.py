"""Region adjacency graph: which fragments touch, over how many faces, with how much boundary."""

from dataclasses import dataclass

import numpy as np

from znn_dask.segmentation.maps import Probability


@dataclass(frozen=True)
class RegionGraph:
    """Contacts between fragments 1..n, each once with u < v, sorted.

    edges: (m, 2) int64 fragment ids; faces: (m,) float64 voxel faces in the contact;
    boundary: (m,) float64 mean boundary probability over them; sizes: (n + 1,) int64 voxels.
    """

    edges: np.ndarray
    faces: np.ndarray
    boundary: np.ndarray
    sizes: np.ndarray


def _sum_by_key(
    keys: np.ndarray, weights: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of weights and values over equal keys."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(keys) else order
    if not len(first):
        return keys, weights, values
    return (
        ordered[first],
        np.add.reduceat(weights[order], first),
        np.add.reduceat(values[order], first),
    )


def _contacts(
    fragments: np.ndarray, probability: Probability, axis: int, count: int, slab: slice
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys u * count + v, faces and summed boundary of one axis' contacts within a slab of z."""
    ids = np.moveaxis(fragments[slab], axis, 0)
    before, after = ids[:-1], ids[1:]
    touching = before != after
    u = before[touching].astype(np.int64)
    v = after[touching].astype(np.int64)
    if probability.affinity is not None:
        joined = np.moveaxis(probability.affinity[2 - axis][slab], axis, 0)[1:]
        value = 1 - joined[touching].astype(np.float64)
    else:
        boundary = np.moveaxis(probability.boundary[slab], axis, 0)
        value = np.maximum(boundary[:-1][touching], boundary[1:][touching]).astype(np.float64)
    keys = np.minimum(u, v) * count + np.maximum(u, v)
    return _sum_by_key(keys, np.ones(len(keys)), value)


def region_graph(
    fragments: np.ndarray, probability: Probability, *, in_plane: bool = False, depth: int = 32
) -> RegionGraph:
    """Build the graph of fragments (z, y, x) uint32 with ids 1..n.

    A face's boundary is the larger of its two voxels' boundary probability, or one minus the
    affinity across it. `in_plane` leaves out the faces between slices. Works through `depth`
    slices at a time.
    """
    count = int(fragments.max()) + 1
    parts = []
    for start in range(0, len(fragments), depth):
        stop = min(start + depth, len(fragments))
        for axis in (1, 2) if in_plane else (0, 1, 2):
            # the face between two slabs belongs to the later one
            slab = slice(max(0, start - 1) if axis == 0 else start, stop)
            parts.append(_contacts(fragments, probability, axis, count, slab))
    keys, faces, total = (np.concatenate(column) for column in zip(*parts, strict=True))
    keys, faces, total = _sum_by_key(keys, faces, total)
    edges = np.stack([keys // count, keys % count], axis=1)
    sizes = np.bincount(fragments.ravel(), minlength=count)
    return RegionGraph(edges, faces, total / np.maximum(faces, 1), sizes)


def contract(graph: RegionGraph, assignment: np.ndarray) -> RegionGraph:
    """The graph after fragment i has become region assignment[i] (ids 1..n without gaps)."""
    count = int(assignment.max()) + 1
    u, v = assignment[graph.edges[:, 0]], assignment[graph.edges[:, 1]]
    outer = u != v
    u, v = u[outer], v[outer]
    keys = np.minimum(u, v).astype(np.int64) * count + np.maximum(u, v)
    faces = graph.faces[outer]
    keys, faces, total = _sum_by_key(keys, faces, faces * graph.boundary[outer])
    edges = np.stack([keys // count, keys % count], axis=1)
    sizes = np.bincount(assignment, weights=graph.sizes, minlength=count).astype(np.int64)
    return RegionGraph(edges, faces, total / np.maximum(faces, 1), sizes)
