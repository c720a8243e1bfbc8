"""What is done with one block, in three stages; each reads what the one before has stored."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import zarr

from znn_dask.kernels.geometry import Box, Triple, box_shape, intersect, relative, shift
from znn_dask.segmentation.grid import Grid, grown, make_box, triple
from znn_dask.segmentation.maps import OpenedMap, Probability, read_probability
from znn_dask.segmentation.region_graph import contacts
from znn_dask.segmentation.store import Parts
from znn_dask.segmentation.watershed import Landscape, block_fragments

Stage = Literal["named", "contacts", "written"]


@dataclass(frozen=True, eq=False)
class Job:
    """A segmentation as its block tasks see it; the same for all blocks.

    opened: the map; kind: what it holds; corner: voxel of the map at which the segmented volume
    begins. grid: the volume and its blocks. fragments, objects: arrays (z, y, x) uint32.
    """

    opened: OpenedMap
    kind: Literal["boundary", "affinity"]
    corner: Triple
    grid: Grid
    landscape: Landscape
    parts: Parts
    fragments: zarr.Array
    objects: zarr.Array

    def run(self, stage: Stage, index: int) -> None:
        """Compute and store one stage of one block."""
        {"named": self.find, "contacts": self.touch, "written": self.write}[stage](index)

    def read(self, box: Box) -> Probability:
        """The map over a box of the volume."""
        # A voxel's boundary is in its own affinities and in those of the voxels after it.
        wide = grown(box, (1, 1, 1), self.grid.world) if self.kind == "affinity" else box
        values = read_probability(self.opened, self.kind, shift(wide, self.corner))
        z, y, x = relative(box, wide)
        affinity = None if values.affinity is None else values.affinity[:, z, y, x]
        return Probability(values.boundary[z, y, x], affinity)

    def find(self, index: int) -> None:
        """Stage 1: the fragments of a block, and what they are called."""
        world = self.grid.world
        block = self.grid.at(index)
        around = grown(block, self.landscape.halo, world)
        boundary = self.read(around).boundary
        found = block_fragments(boundary, around, block, world, self.landscape)
        self.fragments[block] = found.ids
        self.parts.save("named", index, names=found.names, links=found.links)

    def touch(self, index: int) -> None:
        """Stage 2: sizes and contacts of a block's fragments, and where links lead."""
        block = self.grid.at(index)
        flat = self.landscape.in_plane
        layers = [int(s.start > 0 and not (flat and a == 0)) for a, s in enumerate(block)]
        box = make_box((s.start - n for s, n in zip(block, layers, strict=True)), _stops(block))
        part = self.parts.load("named", index)
        ids, names = self._ids(index, box, part["names"])
        values = self.read(box)
        edges, faces, levels = contacts(ids, values, before=triple(layers), in_plane=flat)
        inner = ids[relative(block, box)]
        sizes = np.bincount(inner.ravel(), minlength=len(names) + 1)[1:]
        name, voxel = part["links"].T
        links = np.stack([name, self._names_at(voxel)], axis=1)
        self.parts.save(
            "contacts",
            index,
            sizes=sizes[np.searchsorted(names, part["names"])],
            edges=names[edges - 1],
            faces=faces,
            levels=levels,
            links=np.unique(links, axis=0),
        )

    def _ids(self, index: int, box: Box, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fragments over a box that holds block `index`: ids (z, y, x) uint32, names by id - 1."""
        pieces = []
        for k in self.grid.meeting(box):
            piece = intersect(box, self.grid.at(k))
            assert piece is not None  # these blocks share voxels with the box
            local = np.asarray(self.fragments[piece])
            called = own if k == index else self.parts.load("named", k)["names"]
            present = np.flatnonzero(np.bincount(local.ravel()))
            pieces.append((relative(piece, box), local, called, present))
        names = np.unique(np.concatenate([called[present - 1] for *_, called, present in pieces]))
        ids = np.empty(box_shape(box), np.uint32)
        for where, local, called, present in pieces:
            table = np.zeros(len(called) + 1, np.uint32)
            table[present] = np.searchsorted(names, called[present - 1]) + 1
            ids[where] = table[local]
        return ids, names

    def _names_at(self, voxels: np.ndarray) -> np.ndarray:
        """Names (n,) int64 of the fragments that voxels of other blocks belong to."""
        position = np.unravel_index(voxels, self.grid.world)
        block = [p // b for p, b in zip(position, self.grid.block, strict=True)]
        owner = np.ravel_multi_index(tuple(block), self.grid.counts)
        result = np.empty(len(voxels), np.int64)
        for k in np.unique(owner):
            of = owner == k
            local = np.asarray(self.fragments.vindex[tuple(p[of] for p in position)])
            result[of] = self.parts.load("named", int(k))["names"][local - 1]
        return result

    def write(self, index: int) -> None:
        """Stage 3: a block's fragments become objects."""
        block = self.grid.at(index)
        table = self.parts.load("merged", index)["objects"]
        self.objects[block] = table[np.asarray(self.fragments[block])]
        self.parts.save("written", index)


def _stops(box: Box) -> tuple[int, ...]:
    return tuple(s.stop for s in box)
