"""Merging fragments whose contact shows little boundary.

Mean-affinity agglomeration (Lee et al. 2017, arXiv:1706.00120): always merge the two regions
whose contact has the least mean boundary, and average contacts that become one, weighted by area.

An average is never less than the least of what is averaged. So two regions that are each other's
best neighbour merge sooner or later, whatever else does, and all such pairs may merge at once
(Lu, Zlateski and Seung 2021, arXiv:2106.10795). Contacts are in a strict order, by mean boundary
and then by the ids of their regions; a region has the largest id of its fragments, so that merging
never moves a contact forward in that order. The merges are then the same in whatever order.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from znn_dask.segmentation.region_graph import LEVELS, RegionGraph, contract, summed

# Merging at once pays while at least one region in so many does; then one by one.
_FEW = 50


@dataclass(frozen=True)
class Hierarchy:
    """The merges, in an order in which `height` does not fall.

    merges: (k, 2) int64 fragments joined; height: (k,) float64, the mean boundary between the
    regions joined, so that a threshold cuts the order at one place.
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
    result: np.ndarray = rank[inverse]
    return result


def agglomerate(graph: RegionGraph, threshold: float = 1.0) -> Hierarchy:
    """All merges of contacts with a mean boundary below `threshold`."""
    merges, means = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    limit = threshold * LEVELS
    edges, faces, levels = graph.edges, graph.faces, graph.levels
    while True:
        mean = levels / faces
        mergeable = mean < limit
        # Merging gives no region its first contact below the threshold: the others are at rest.
        active = np.zeros(len(graph.sizes), bool)
        active[edges[mergeable]] = True
        kept = active[edges].all(1)
        edges, faces, levels = edges[kept], faces[kept], levels[kept]
        mean, mergeable = mean[kept], mergeable[kept]
        chosen = _mutually_best(edges[mergeable], mean[mergeable], len(graph.sizes))
        if len(chosen) * _FEW <= np.count_nonzero(active):
            break
        pairs = edges[mergeable][chosen]
        merges.append(pairs)
        means.append(mean[mergeable][chosen])
        became = np.arange(len(graph.sizes))
        became[pairs[:, 0]] = pairs[:, 1]
        edges, faces, levels = summed(became[edges], faces, levels)
    rest = list(_one_by_one(_Contacts(edges, levels, faces), limit))
    if rest:
        merges.append(np.array([(u, v) for _, u, v in rest], np.int64))
        means.append(np.array([value for value, _, _ in rest]))
    height = np.concatenate(means) / LEVELS
    order = np.argsort(height, kind="stable")
    return Hierarchy(graph, np.concatenate(merges)[order], height[order])


def _mutually_best(edges: np.ndarray, mean: np.ndarray, count: int) -> np.ndarray:
    """Contacts that come first among all of both their regions: indices into sorted `edges`."""
    least = np.full(count, np.inf)
    for end in edges.T:
        np.minimum.at(least, end, mean)
    # Contacts are sorted by ids, so the lowest index decides between equal means.
    index = np.arange(len(edges))
    first = np.full(count, len(edges))
    for end in edges.T:
        equal = mean == least[end]
        np.minimum.at(first, end[equal], index[equal])
    result: np.ndarray = index[(first[edges] == index[:, None]).all(1)]
    return result


class _Contacts:
    """Mutable adjacency: for every live region its neighbours' (summed boundary, faces)."""

    def __init__(self, edges: np.ndarray, levels: np.ndarray, faces: np.ndarray) -> None:
        self.of: dict[int, dict[int, tuple[int, int]]] = {}
        for (u, v), *contact in zip(edges.tolist(), levels.tolist(), faces.tolist(), strict=True):
            self.of.setdefault(u, {})[v] = self.of.setdefault(v, {})[u] = (contact[0], contact[1])

    def merge(self, keep: int, gone: int) -> list[int]:
        """Move all contacts of `gone` to `keep`; returns the neighbours they lead to."""
        mine, theirs = self.of[keep], self.of.pop(gone)
        del mine[gone], theirs[keep]
        for neighbour, contact in theirs.items():
            back = self.of[neighbour]
            del back[gone]
            known = mine.get(neighbour)
            if known is not None:
                contact = (known[0] + contact[0], known[1] + contact[1])
            mine[neighbour] = back[keep] = contact
        return list(theirs)


def _one_by_one(contacts: _Contacts, limit: float) -> Iterator[tuple[float, int, int]]:
    """(mean boundary, u, v) of the merges, least first."""
    # The smaller of two regions moves to the larger; `title` is the id that the order knows it by.
    title = {u: u for u in contacts.of}
    holder = dict(title)
    heap = [
        (levels / faces, u, v)
        for u, neighbours in contacts.of.items()
        for v, (levels, faces) in neighbours.items()
        if u < v and levels / faces < limit
    ]
    heapq.heapify(heap)
    while heap:
        value, u, v = heapq.heappop(heap)
        if u not in holder or v not in holder:
            continue
        keep, gone = holder[u], holder[v]
        contact = contacts.of[keep].get(gone)
        if contact is None or contact[0] / contact[1] != value:
            continue  # a later entry holds this contact's present mean
        yield value, u, v
        if len(contacts.of[keep]) < len(contacts.of[gone]):
            keep, gone = gone, keep
        changed = contacts.merge(keep, gone)
        if title[keep] != v:
            changed = list(contacts.of[keep])  # all are known by another id from now on
        del holder[u], title[gone]
        title[keep], holder[v] = v, keep
        for neighbour in changed:
            levels, faces = contacts.of[keep][neighbour]
            mean = levels / faces
            if mean < limit:
                other = title[neighbour]
                heapq.heappush(heap, (mean, min(v, other), max(v, other)))


def _absorb(graph: RegionGraph, minimum_size: int) -> np.ndarray:
    """Merges (k, 2) that give every region below `minimum_size` to its best neighbour."""
    small = graph.sizes < minimum_size
    near = small[graph.edges].any(1)
    contacts = _Contacts(graph.edges[near], graph.levels[near], graph.faces[near])
    sizes = graph.sizes.tolist()
    heap = [(sizes[i], i) for i in np.flatnonzero(small).tolist() if i in contacts.of]
    heapq.heapify(heap)
    merges: list[tuple[int, int]] = []
    while heap:
        size, region = heapq.heappop(heap)
        neighbours = contacts.of.get(region)
        if sizes[region] != size or not neighbours:
            continue
        best = min(neighbours, key=lambda n: (neighbours[n][0] / neighbours[n][1], n))
        merges.append((region, best))
        contacts.merge(best, region)
        sizes[best] += size
        sizes[region] = -1
        if sizes[best] < minimum_size:
            heapq.heappush(heap, (sizes[best], best))
    return np.array(merges, np.int64).reshape(-1, 2)
