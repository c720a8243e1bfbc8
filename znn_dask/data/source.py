"""One volume as the sampler sees it: cached arrays, a region, mirrored reads, statistics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.cache import WHOLE_BYTES, CachedArray
from znn_dask.data.candidates import Candidates, cells
from znn_dask.data.geometry import Box, mirrored, resolve_region
from znn_dask.data.metadata import VolumeError
from znn_dask.data.preprocessing import Preprocessing
from znn_dask.data.targets import Target
from znn_dask.data.volume import Volume
from znn_dask.kernels.geometry import Triple

PROBE_CELLS = 64
MEMBRANE_SHARE = 0.01  # label 0 is a class when it covers more than this, else stray voxels


@dataclass(frozen=True)
class Source:
    """Arrays of one volume; boxes are in coordinates of `region`, whose edges mirror."""

    path: str
    images: Mapping[str, CachedArray]  # by input node
    preprocessing: Mapping[str, Preprocessing]  # by input node, fitted
    labels: Mapping[str, CachedArray]  # by output node
    mask: CachedArray | None
    region: Box
    candidates: Candidates

    @property
    def shape(self) -> Triple:
        """Voxels of the region (z, y, x)."""
        z, y, x = (s.stop - s.start for s in self.region)
        return (z, y, x)

    def read(self, array: CachedArray, box: Box) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
        """Voxels (..., z, y, x) of a box that may leave the region (symmetric), and their z."""
        moved = [
            (b.start + r.start, b.stop + r.start) for b, r in zip(box, self.region, strict=True)
        ]
        inside = all(
            r.start <= a and b <= r.stop for (a, b), r in zip(moved, self.region, strict=True)
        )
        if inside:
            (z0, z1), (y0, y1), (x0, x1) = moved
            block = array.read((slice(z0, z1), slice(y0, y1), slice(x0, x1)))
            return block, np.arange(z0, z1)
        index = [
            np.asarray(mirrored(a, b, r.start, r.stop))
            for (a, b), r in zip(moved, self.region, strict=True)
        ]
        z, y, x = (slice(int(i.min()), int(i.max()) + 1) for i in index)
        block = array.read((z, y, x))
        local = np.ix_(*(i - s.start for i, s in zip(index, (z, y, x), strict=True)))
        whole: Any = (..., *local)
        return block[whole], index[0]

    def label_cells(self, name: str, target: Target) -> Iterator[tuple[NDArray[np.generic], Box]]:
        """Label blocks with the target's context, and the boxes they describe, over the region."""
        below, above = target.context
        first = below if target.kind == "affinity" else 0  # there the neighbour must exist
        z, y, x = (slice(r.start + first, r.stop) for r in self.region)
        for cell in cells((z, y, x), self.labels[name].chunks):
            z, y, x = (
                slice(c.start - r.start, c.stop - r.start)
                for c, r in zip(cell, self.region, strict=True)
            )
            around = tuple(slice(s.start - below, s.stop + above) for s in (z, y, x))
            yield self.read(self.labels[name], (around[0], around[1], around[2]))[0], (z, y, x)

    def has_membrane_class(self, name: str) -> bool:
        """Whether label 0 is common, judged from at most 64 chunks spread over the region."""
        every = cells(self.region, self.labels[name].chunks)
        chosen = every[:: -(-len(every) // PROBE_CELLS)]
        blocks = [self.labels[name].read(cell) for cell in chosen]
        zeros = sum(b.size - int(np.count_nonzero(b)) for b in blocks)
        return zeros > MEMBRANE_SHARE * sum(b.size for b in blocks)


def fits_in_memory(volumes: Sequence[Volume]) -> bool:
    """Whether all items of all volumes together are small enough to stay decoded."""
    return sum(v[n].nbytes for v in volumes for n in v.names) < WHOLE_BYTES


def open_source(
    volume: Volume,
    token: str,
    images: Mapping[str, str],
    labels: Mapping[str, str],
    mask: str | None,
    preprocessing: Preprocessing,
    region: object,
    *,
    whole: bool,
) -> Source:
    """Open the named items of a volume; `images` and `labels` are item names by node.

    `whole`: keep all of it decoded, else chunk by chunk as memory allows.

    Raises VolumeError for items that are missing or disagree in shape.
    """
    names = volume.names
    used_mask = mask if mask is not None and mask in names else None
    wanted = dict.fromkeys((*images.values(), *labels.values()))
    items = {n: volume[n] for n in wanted} | ({used_mask: volume[used_mask]} if used_mask else {})
    cached = {n: CachedArray(a, f"{token}/{n}", whole=whole) for n, a in items.items()}
    reference = next(iter(labels.values()))
    shape = cached[reference].shape[-3:]
    for name, array in cached.items():
        if array.shape[-3:] != shape:
            raise VolumeError(
                f"{volume.path}: {name} is {array.shape[-3:]} but {reference} is {shape} voxels: "
                "crop or import them to one shape"
            )
        if name not in images.values() and len(array.shape) != 3:
            raise VolumeError(f"{volume.path}: {name} has shape {array.shape}, expected (z,y,x)")
    fitted = {n: preprocessing.fit(items[n]) for n in dict.fromkeys(images.values())}
    found_mask = cached[used_mask] if used_mask is not None else None
    try:
        box = resolve_region(region, (shape[0], shape[1], shape[2]))
    except ValueError as error:
        raise VolumeError(f"{volume.path}: {error}") from None
    return Source(
        volume.path,
        {node: cached[item] for node, item in images.items()},
        {node: fitted[item] for node, item in images.items()},
        {node: cached[item] for node, item in labels.items()},
        found_mask,
        box,
        Candidates(found_mask),
    )
