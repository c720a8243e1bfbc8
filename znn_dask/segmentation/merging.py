"""The step between the blocks: one graph of the whole volume, and what merges in it.

It runs in one process on the graph alone, which is a thousand times smaller than the volume.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from znn_dask.segmentation.agglomerate import agglomerate
from znn_dask.segmentation.maps import SegmentationError
from znn_dask.segmentation.region_graph import RegionGraph, summed
from znn_dask.segmentation.store import Parts

BYTES_PER_CONTACT = 200
"""Peak of merging, by contact of the blocks; measured (benchmarks/segmentation.py)."""

MERGING_BYTES_PER_VOXEL = BYTES_PER_CONTACT / 80
"""What merging takes before the contacts are counted: maps have about one in 80 voxels."""


def contacts_of(parts: Parts, blocks: int) -> int:
    """How many contacts the blocks have found."""
    return sum(len(parts.load("contacts", k)["faces"]) for k in range(blocks))


def merge(parts: Parts, blocks: int, threshold: float, minimum_size: int) -> int:
    """Merge the fragments of all blocks; stores which object each has become, and returns how many
    objects there are."""
    names, graph = whole_graph(parts, blocks)
    regions = agglomerate(graph, threshold).cut(threshold, minimum_size)
    objects = int(regions.max())
    if objects > np.iinfo(np.uint32).max:
        raise SegmentationError(f"{objects} objects do not fit into uint32 ids; raise minimum_size")
    for k in range(blocks):
        called = parts.load("named", k)["names"]
        fragment = names.index_of(called)
        parts.save("merged", k, objects=np.r_[np.uint32(0), regions[fragment].astype(np.uint32)])
    return objects


class Names:
    """Fragment 1..n of the volume for every name that blocks know; linked names are one fragment.

    Fragments are numbered by the least of their names, which is the first voxel of their summit.
    """

    def __init__(self, names: np.ndarray, links: np.ndarray) -> None:
        self.names = names
        u, v = np.searchsorted(names, links.T)
        joined = coo_array((np.ones(len(u), bool), (u, v)), shape=(len(names), len(names)))
        count, component = connected_components(joined, directed=False)
        # Names ascend, so the first of a component is its least.
        _, first = np.unique(component, return_index=True)
        rank = np.empty(count, np.int64)
        rank[np.argsort(first)] = np.arange(1, count + 1)
        self.count = count
        self.fragment = rank[component]

    def index_of(self, names: np.ndarray) -> np.ndarray:
        result: np.ndarray = self.fragment[np.searchsorted(self.names, names)]
        return result


def whole_graph(parts: Parts, blocks: int) -> tuple[Names, RegionGraph]:
    """The graph of the volume, the same however it was cut into blocks."""
    found = [parts.load("named", k)["names"] for k in range(blocks)]
    links = np.concatenate([parts.load("contacts", k)["links"] for k in range(blocks)])
    names = Names(np.unique(np.concatenate(found)), links)
    sizes = np.zeros(names.count + 1, np.int64)
    columns = []
    for k, called in enumerate(found):
        part = parts.load("contacts", k)
        np.add.at(sizes, names.index_of(called), part["sizes"])
        columns.append((names.index_of(part["edges"]), part["faces"], part["levels"]))
    edges, faces, levels = (np.concatenate(column) for column in zip(*columns, strict=True))
    return names, RegionGraph(*summed(edges, faces, levels), sizes)
