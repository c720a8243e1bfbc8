"""Merging fragments whose contact shows little boundary.

Mean-affinity agglomeration (Lee et al. 2017, arXiv:1706.00120): always merge the two regions
whose contact has the least mean boundary, and average contacts that become one, weighted by area.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from znn_dask.segmentation.region_graph import RegionGraph, contract


@dataclass(frozen=True)
class Hierarchy:
    """The merges in the order in which they were made.

    merges: (k, 2) int64 fragments joined; height: (k,) float64, the largest mean boundary met up
    to that merge, so that a threshold cuts the order at one place.
    """

    graph: RegionGraph
    merges: np.ndarray
    height: np.ndarray

    def cut(self, threshold: float, minimum_size: int = 0) -> np.ndarray:
        """Region of every fragment: (n + 1,) uint32, ids 1..k without gaps, 0 stays 0.

        Contacts with a mean boundary below `threshold` are merged; what is then smaller than
        `minimum_size` voxels joins the neighbour with the least boundary.
        """
        made = int(np.searchsorted(self.height, threshold, side="left"))
        regions = _join(len(self.graph.sizes), self.merges[:made])
        if minimum_size > 0:
            contracted = contract(self.graph, regions)
            absorbed = _join(len(contracted.sizes), _absorb(contracted, minimum_size))
            regions = absorbed[regions]
        return regions.astype(np.uint32)


def _join(count: int, pairs: np.ndarray) -> np.ndarray:
    """Connected components of `count` nodes; node 0 alone is component 0, the others 1..k."""
    ones = np.ones(len(pairs), bool)
    links = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, component = connected_components(links, directed=False)
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


class _Contacts:
    """Mutable adjacency: for every live region its neighbours' [summed boundary, faces]."""

    def __init__(self, graph: RegionGraph) -> None:
        self.of: list[dict[int, list[float]]] = [{} for _ in graph.sizes]
        sums = (graph.boundary * graph.faces).tolist()
        for (u, v), total, faces in zip(
            graph.edges.tolist(), sums, graph.faces.tolist(), strict=True
        ):
            contact = [total, faces]
            self.of[u][v] = contact
            self.of[v][u] = contact

    def merge(self, keep: int, gone: int) -> list[int]:
        """Move all contacts of `gone` to `keep`; returns the neighbours they lead to."""
        mine = self.of[keep]
        theirs = self.of[gone]
        del mine[gone], theirs[keep]
        for neighbour, contact in theirs.items():
            back = self.of[neighbour]
            del back[gone]
            known = mine.get(neighbour)
            if known is not None:
                contact = [known[0] + contact[0], known[1] + contact[1]]
            mine[neighbour] = contact
            back[keep] = contact
        moved = list(theirs)
        self.of[gone] = {}
        return moved


def agglomerate(graph: RegionGraph, threshold: float = 1.0) -> Hierarchy:
    """All merges of contacts with a mean boundary below `threshold`, least boundary first."""
    contacts = _Contacts(graph)
    heap = [
        (contact[0] / contact[1], u, v)
        for u, neighbours in enumerate(contacts.of)
        for v, contact in neighbours.items()
        if u < v and contact[0] / contact[1] < threshold
    ]
    heapq.heapify(heap)
    merges: list[tuple[int, int]] = []
    heights: list[float] = []
    highest = 0.0
    while heap:
        value, u, v = heapq.heappop(heap)
        contact = contacts.of[u].get(v)
        if contact is None or contact[0] / contact[1] != value:
            continue  # a later entry holds this contact's present mean
        highest = max(highest, value)
        merges.append((u, v))
        heights.append(highest)
        keep, gone = (u, v) if len(contacts.of[u]) >= len(contacts.of[v]) else (v, u)
        for neighbour in contacts.merge(keep, gone):
            total, faces = contacts.of[keep][neighbour]
            mean = total / faces
            if mean < threshold:
                heapq.heappush(heap, (mean, min(keep, neighbour), max(keep, neighbour)))
    return Hierarchy(
        graph, np.array(merges, np.int64).reshape(-1, 2), np.array(heights, np.float64)
    )


def _absorb(graph: RegionGraph, minimum_size: int) -> np.ndarray:
    """Merges (k, 2) that give every region below `minimum_size` to its best neighbour."""
    contacts = _Contacts(graph)
    sizes = graph.sizes.tolist()
    heap = [(size, i) for i, size in enumerate(sizes) if i and size < minimum_size]
    heapq.heapify(heap)
    merges: list[tuple[int, int]] = []
    while heap:
        size, small = heapq.heappop(heap)
        neighbours = contacts.of[small]
        if sizes[small] != size or not neighbours:
            continue
        best = min(neighbours, key=lambda n: (neighbours[n][0] / neighbours[n][1], n))
        merges.append((small, best))
        contacts.merge(best, small)
        sizes[best] += size
        sizes[small] = -1
        if sizes[best] < minimum_size:
            heapq.heappush(heap, (sizes[best], best))
    return np.array(merges, np.int64).reshape(-1, 2)
