"""Volumes of object ids, read block by block: which objects there are, where, and how large."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from znn_dask.data.metadata import VoxelSize, parse_multiscales
from znn_dask.data.volume import image_attributes, is_local
from znn_dask.neurons.errors import NeuronError
from znn_dask.neurons.running import Runner
from znn_dask.segmentation.maps import OpenedMap, open_map

Triple = tuple[int, int, int]

_BLOCK_EDGE = 128
MAXIMUM_EDGE = (1 << 20) - 1
"""Voxels of an axis that the keys of vertices can hold."""


@dataclass(frozen=True)
class Objects:
    """Object ids (z, y, x) on disk or in memory; 0 is background.

    voxel_size: (z, y, x) nm. origin: where in the specimen the array begins, (z, y, x) nm.
    block: voxels (z, y, x) that are read at a time.
    """

    array: Any
    source: str
    voxel_size: VoxelSize
    origin: VoxelSize
    block: Triple

    @property
    def shape(self) -> Triple:
        z, y, x = self.array.shape
        return int(z), int(y), int(x)

    def state(self) -> str:
        """What changes when other objects are written to the same place; "" where unknown."""
        if isinstance(self.array, np.ndarray):
            return hashlib.sha256(self.array.tobytes()).hexdigest()[:16]
        if isinstance(getattr(self.array, "store", None), LocalStore):
            metadata = self.array.store.root / self.array.path / "zarr.json"
            return str(metadata.stat().st_mtime_ns) if metadata.exists() else ""
        return ""

    def blocks(self) -> Iterator[Triple]:
        """Indices (z, y, x) of the blocks, in the order of memory."""
        counts = (-(-n // b) for n, b in zip(self.shape, self.block, strict=True))
        yield from product(*(range(n) for n in counts))

    def core(self, block: Triple) -> tuple[Triple, Triple]:
        """First voxel of a block and the one behind its last; blocks do not overlap."""
        start = [k * b for k, b in zip(block, self.block, strict=True)]
        stop = [min(s + b, n) for s, b, n in zip(start, self.block, self.shape, strict=True)]
        return _triple(start), _triple(stop)

    def read(self, start: Triple, stop: Triple) -> np.ndarray:
        """Ids of the box from `start` to before `stop` (z, y, x); 0 beyond the volume."""
        inside = tuple(
            slice(max(0, a), min(b, n)) for a, b, n in zip(start, stop, self.shape, strict=True)
        )
        values = np.asarray(self.array[inside])
        margins = [(s.start - a, b - s.stop) for s, a, b in zip(inside, start, stop, strict=True)]
        return np.pad(values, margins) if np.any(margins) else values

    def cells(self, block: Triple) -> tuple[np.ndarray, Triple]:
        """Ids around the cells of a block, and the voxel at which they begin.

        A cell lies between eight neighbouring voxels. Every cell of the volume, and of a layer of
        background around it, belongs to one block.
        """
        start, stop = self.core(block)
        lower = _triple(s - 1 for s in start)
        upper = _triple(s + (s == n) for s, n in zip(stop, self.shape, strict=True))
        return self.read(lower, upper), lower


def _triple(values: Any) -> Triple:
    z, y, x = (int(v) for v in values)
    return z, y, x


def origin(opened: OpenedMap, voxel_size: VoxelSize | None = None) -> VoxelSize:
    """Where a volume begins in its specimen: the outer corner of its first voxel, (z, y, x) nm.

    voxel_size: of the full resolution, default what the volume records.
    """
    if opened.offset is None:
        return (0.0, 0.0, 0.0)
    full = None  # a lower level begins where the full resolution does, in whose voxels offsets are
    if isinstance(opened.array, zarr.Array):
        full = parse_multiscales(image_attributes(opened.array))
    edges = voxel_size or (opened.voxel_size if full is None else full.voxel_size)
    z, y, x = (float(o * e) for o, e in zip(opened.offset, edges, strict=True))
    return z, y, x


def open_objects(
    source: Any, *, voxel_size: VoxelSize | None = None, block: Sequence[int] | None = None
) -> Objects:
    """Open a volume of object ids: path or URL as for `open_array`, Zarr or numpy array (z, y, x).

    voxel_size: (z, y, x) nm, default what the volume records. block: voxels (z, y, x) to read at a
    time, default whole chunks of about 128^3. Raises NeuronError or VolumeError.
    """
    if isinstance(source, str | Path) and is_local(str(source)):
        source = str(Path(source).absolute())  # for workers that began in another folder
    opened = open_map(source)
    if len(opened.shape) != 3 or not np.issubdtype(opened.array.dtype, np.integer):
        raise NeuronError(
            f"{opened.source} holds {opened.array.dtype} of shape {opened.shape}, not object ids "
            "with axes z,y,x; make objects of a map with `znn-dask segment`"
        )
    if max(opened.shape) > MAXIMUM_EDGE:
        raise NeuronError(f"{opened.source} has {opened.shape} voxels, more than {MAXIMUM_EDGE}")
    if block is None:
        chunks = getattr(opened.array, "chunks", None) or (1, 1, 1)
        block = [c * max(1, _BLOCK_EDGE // c) for c in chunks]
    if len(block) != 3 or min(block) < 1:
        raise NeuronError(f"block {tuple(block)} is not three positive numbers z,y,x")
    return Objects(
        opened.array,
        opened.source,
        voxel_size or opened.voxel_size,
        origin(opened, voxel_size),
        _triple(block),
    )


def numbered(labels: np.ndarray, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The ids in order, and `labels` with their ranks, from 1, in their place; 0 for all others."""
    wanted = np.sort(np.asarray(ids, labels.dtype))
    slots = np.searchsorted(wanted, labels)
    slots[slots == len(wanted)] = 0
    return wanted, np.where(wanted[slots] == labels, slots + 1, 0)


@dataclass(frozen=True)
class Presence:
    """The objects of one block: ids, voxels of each in the block, and whether it meets a cell."""

    block: Triple
    ids: np.ndarray
    voxels: np.ndarray


def presence(objects: Objects, block: Triple) -> Presence:
    """The objects around the cells of a block; those of its margin alone with 0 voxels."""
    labels, lower = objects.cells(block)
    ids = np.unique(labels)
    start, stop = objects.core(block)
    inner = labels[tuple(slice(a - s, b - s) for a, b, s in zip(start, stop, lower, strict=True))]
    found, counts = np.unique(inner, return_counts=True)
    voxels = np.zeros(len(ids), np.int64)
    voxels[np.searchsorted(ids, found)] = counts
    return Presence(block, ids[ids != 0], voxels[ids != 0])


@dataclass(frozen=True)
class Census:
    """Voxels of every object, and the blocks in which each can be found."""

    voxels: Mapping[int, int]
    places: Mapping[int, Sequence[Triple]]

    def choose(
        self,
        ids: Sequence[int] | None = None,
        largest: int | None = None,
        minimum_size: int = 1,
    ) -> list[int]:
        """Ids by size, the largest first; raises NeuronError for unknown ids, or where none are."""
        if ids is not None:
            unknown = [i for i in ids if i not in self.voxels]
            if unknown:
                raise NeuronError(
                    f"there is no object {unknown[0]}: the {len(self.voxels)} objects have ids "
                    f"from {min(self.voxels, default=0)} to {max(self.voxels, default=0)}"
                )
        pool = self.voxels.keys() if ids is None else set(ids)
        ranked = sorted(pool, key=lambda i: (-self.voxels[i], i))
        chosen = [i for i in ranked if self.voxels[i] >= minimum_size][:largest]
        if not chosen:
            most = max(self.voxels.values(), default=0)
            raise NeuronError(
                f"no object has {minimum_size} voxels, the largest of {len(self.voxels)} has "
                f"{most}; choose a smaller size"
            )
        return chosen


def census(found: Sequence[Presence]) -> Census:
    """All blocks' objects together."""
    voxels: dict[int, int] = {}
    places: dict[int, list[Triple]] = {}
    for here in sorted(found, key=lambda p: p.block):
        for i, n in zip(here.ids.tolist(), here.voxels.tolist(), strict=True):
            voxels[i] = voxels.get(i, 0) + n
            places.setdefault(i, []).append(here.block)
    return Census(voxels, places)


def count(objects: Objects, runner: Runner) -> Census:
    """All objects of a volume, which is read once."""
    return census(runner.map("counting", partial(presence, objects), list(objects.blocks())))
