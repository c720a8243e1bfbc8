"""Region adjacency graph: which fragments touch, over how many faces, with how much boundary.

Boundary is summed in whole numbers, so sums over blocks are the same in any order.
"""

from dataclasses import dataclass

import numpy as np

from znn_dask.segmentation.maps import Probability

LEVELS = 65535
"""Boundary probability 1 as a whole number."""


@dataclass(frozen=True)
class RegionGraph:
    """Contacts between fragments 1..n, each once with u < v, sorted.

    edges: (m, 2) int64 fragment ids; faces: (m,) int64 voxel faces in the contact;
    levels: (m,) int64 summed boundary over them, in 1 / LEVELS; sizes: (n + 1,) int64 voxels.
    """

    edges: np.ndarray
    faces: np.ndarray
    levels: np.ndarray
    sizes: np.ndarray

    @property
    def boundary(self) -> np.ndarray:
        """(m,) float64 mean boundary probability over the faces."""
        result: np.ndarray = self.levels / (self.faces * float(LEVELS))
        return result


def summed(
    edges: np.ndarray, faces: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contacts with u < v, sorted, each once: parts of one are added and u = v is left out."""
    outer = edges[:, 0] != edges[:, 1]
    u, v = edges[outer].min(1), edges[outer].max(1)
    order = np.lexsort((v, u))
    u, v, faces, levels = u[order], v[order], faces[outer][order], levels[outer][order]
    if not len(u):
        return np.zeros((0, 2), np.int64), faces, levels
    first = np.flatnonzero(np.r_[True, (u[1:] != u[:-1]) | (v[1:] != v[:-1])])
    return (
        np.stack([u[first], v[first]], axis=1),
        np.add.reduceat(faces, first),
        np.add.reduceat(levels, first),
    )


def as_levels(probability: np.ndarray) -> np.ndarray:
    """Whole numbers (uint16, same shape) of probabilities in [0, 1]."""
    return np.rint(probability * np.float32(LEVELS)).astype(np.uint16)


def contacts(
    ids: np.ndarray,
    probability: Probability,
    *,
    before: tuple[int, int, int] = (0, 0, 0),
    in_plane: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contacts (edges, faces, levels) of fragment ids (z, y, x) uint32.

    A face's boundary is the larger of its two voxels' boundary probability, or one minus the
    affinity across it. before: layers at the beginning of each axis that belong to other blocks,
    which count the faces within. in_plane: leaves out the faces between slices.
    """
    parts = []
    for axis in (1, 2) if in_plane else (0, 1, 2):
        # A face belongs to the later of its voxels.
        own = tuple(slice(0 if a == axis else n, None) for a, n in enumerate(before))
        skip = max(1, before[axis])
        low = (*own[:axis], slice(skip - 1, -1), *own[axis + 1 :])
        high = (*own[:axis], slice(skip, None), *own[axis + 1 :])
        touching = ids[low] != ids[high]
        u, v = ids[low][touching].astype(np.int64), ids[high][touching].astype(np.int64)
        if probability.affinity is not None:
            value = 1 - probability.affinity[2 - axis][high][touching]
        else:
            value = np.maximum(
                probability.boundary[low][touching], probability.boundary[high][touching]
            )
        levels = as_levels(value).astype(np.int64)
        parts.append(summed(np.stack([u, v], axis=1), np.ones(len(u), np.int64), levels))
    edges, faces, levels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return summed(edges, faces, levels)


def region_graph(
    fragments: np.ndarray, probability: Probability, *, in_plane: bool = False
) -> RegionGraph:
    """The graph of fragments (z, y, x) uint32 with ids 1..n in memory."""
    edges, faces, levels = contacts(fragments, probability, in_plane=in_plane)
    return RegionGraph(edges, faces, levels, np.bincount(fragments.ravel()))


def contract(graph: RegionGraph, assignment: np.ndarray) -> RegionGraph:
    """The graph after fragment i has become region assignment[i] (ids 1..n without gaps)."""
    edges, faces, levels = summed(assignment[graph.edges], graph.faces, graph.levels)
    sizes = np.zeros(int(assignment.max()) + 1, np.int64)
    np.add.at(sizes, assignment, graph.sizes)
    return RegionGraph(edges.astype(np.int64), faces, levels, sizes)
