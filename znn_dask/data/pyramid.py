"""Lower resolutions of an OME-Zarr image, for viewers: built level by level, block by block.

    image/0                 what was imported, predicted or segmented
    image/1, image/2, ...   each made from the one above; in the metadata once it is complete
    image/.pyramid/1        which blocks of level 1 are on disk, until all levels are

Zarr stores no chunk of zeros, so the levels themselves do not say what was done.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from znn_dask.data.boxes import Block, cubes, cut
from znn_dask.data.metadata import VolumeError, parse_multiscales, with_levels
from znn_dask.data.progress import shown
from znn_dask.data.reduction import Reduction, halvings, reduced
from znn_dask.data.remote import zarr_store
from znn_dask.data.spread import spread
from znn_dask.kernels.geometry import Triple

if TYPE_CHECKING:
    from distributed import Client

RECORD = ".pyramid"
BLOCK_EDGE = 128  # voxels that one task makes along z, y and x, about


def build_pyramid(
    image: str | Path,
    reduction: Reduction | None = None,
    *,
    client: "Client | None" = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> int:
    """Build the lower levels of this OME-Zarr image, chunk by chunk; returns how many it has.

    Each level is halved along the axes with the shortest voxels, until it is 64 voxels long. A
    level appears in the metadata when it is complete; a run that was interrupted anywhere is
    continued by the next one, block by block. Each task holds the voxels of about 8 chunks.

    Parameters
    ----------
    image
        Path or URL of an image group in Zarr format 3 (NGFF 0.5), "volume.zarr/image" or
        "map.zarr", whose array "0" (z,y,x) or (c,z,y,x) is complete.
    reduction
        "mean" for images and maps, "mode" (most frequent, ids stay exact) for labels; by default
        "mode" for what says that it is labels ("image-label") and for integers of 32 bits or more.
    client
        Dask client whose workers do it; they must see the same storage. None: `threads` of this
        process, one per core by default.
    overwrite
        Build all levels anew, after the image has changed.

    Raises
    ------
    VolumeError
        Where there is no such image.
    """
    place = str(image)
    group, entry = _opened(place)
    base = group[entry["datasets"][0]["path"]]
    assert isinstance(base, zarr.Array)  # as the metadata says
    about = parse_multiscales(group.attrs)
    assert about is not None
    made = entry.get("type") if len(entry["datasets"]) > 1 and not overwrite else None
    how = reduction or made or default_reduction(group.attrs, base.dtype)
    steps = halvings(base.shape, about.voxel_size)
    factors = list(itertools.accumulate(steps, _times))
    if overwrite:
        entry = with_levels(entry, [], how)
        _publish(group, entry)
        for name in (RECORD, *(str(k + 1) for k in range(len(steps)))):
            if name in group:
                del group[name]
    have = len(entry["datasets"]) - 1
    if have and entry != with_levels(entry, factors[:have], how):
        raise VolumeError(
            f"{place} has {have} levels made by {entry.get('type')} in another way than ours by "
            f"{how}: overwrite them to build them anew"
        )
    title = f"pyramid of {Path(place).name}"
    for number in range(have + 1, len(steps) + 1):
        step = steps[number - 1]
        above = base if number == 1 else group[str(number - 1)]
        assert isinstance(above, zarr.Array)
        level, marks, every = _level(group, str(number), above, base, step, how)
        done = np.asarray(marks[:])
        missing = [item for item in every if not done[item[0]]]
        work = functools.partial(_build, above, level, marks, step, how)
        finished = spread(work, missing, name="pyramid", client=client, threads=threads)
        label = f"{title}, level {number} of {len(steps)}"
        for _ in shown(finished, label, len(every), "blocks", progress, done=int(done.sum())):
            pass
        entry = with_levels(entry, factors[:number], how)
        _publish(group, entry)
    if RECORD in group:
        del group[RECORD]
    return len(steps)


def reduce_block(
    source: Any,
    target: Any,
    unit: Sequence[int],
    factors: Triple,
    reduction: Reduction,
    block: Block,
) -> None:
    """Fill `block` of array `target` from `source`, which is `factors` (z,y,x) times as fine.

    One chunk of shape `unit` after another, so that a task holds little whatever the block.
    """
    each = (*((1,) * (len(block) - 3)), *factors)
    for part in cut([b.stop - b.start for b in block], unit):
        into = tuple(
            slice(b.start + p.start, b.start + p.stop) for b, p in zip(block, part, strict=True)
        )
        box = tuple(
            slice(i.start * f, min(i.stop * f, n))
            for i, f, n in zip(into, each, source.shape, strict=True)
        )
        target[into] = reduced(np.asarray(source[box]), factors, reduction)


def _build(
    source: zarr.Array,
    target: zarr.Array,
    marks: zarr.Array,
    factors: Triple,
    reduction: Reduction,
    item: tuple[int, Block],
) -> None:
    number, block = item
    unit = target.shards or target.chunks
    reduce_block(source, target, unit, factors, reduction, block)
    marks[number] = 1


def _level(
    group: zarr.Group, name: str, above: zarr.Array, base: zarr.Array, step: Triple, how: Reduction
) -> tuple[zarr.Array, zarr.Array, list[tuple[int, Block]]]:
    """The array of a level, the marks of its blocks, and the blocks: what an interrupted run left
    of them, or else new ones."""
    halved = (-(-n // f) for n, f in zip(above.shape[-3:], step, strict=True))
    shape = (*above.shape[:-3], *halved)
    unit = base.chunks if base.shards else tuple(map(min, base.chunks, shape))
    every = list(enumerate(cubes(shape, base.shards or unit, BLOCK_EDGE)))
    record = group.require_group(RECORD)
    about: dict[str, Any] = {"reduction": how, "shape": list(shape), "dtype": str(base.dtype)}
    if name in record and name in group:
        level, marks = group[name], record[name]
        assert isinstance(level, zarr.Array)
        assert isinstance(marks, zarr.Array)
        if marks.shape == (len(every),) and dict(marks.attrs) == about:
            return level, marks, every
    for holder in (record, group):
        if name in holder:
            del holder[name]
    level = group.create_array(
        name,
        shape=shape,
        dtype=base.dtype,
        chunks=unit,
        shards=base.shards,
        compressors=base.compressors,
        fill_value=0,
        dimension_names=base.metadata.dimension_names,  # type: ignore[union-attr]
    )
    marks = record.create_array(
        name,
        shape=(len(every),),
        dtype="u1",
        chunks=(1,),
        compressors=None,
        attributes=about,
    )
    return level, marks, every


def _opened(place: str) -> tuple[zarr.Group, dict[str, Any]]:
    """The image group and its multiscales entry."""
    try:
        group = zarr.open_group(zarr_store(place), mode="r+")
    except (OSError, ValueError) as error:
        raise VolumeError(
            f"no image group at {place}: name one such as volume.zarr/image"
        ) from error
    ome = group.attrs.get("ome")
    if not isinstance(ome, dict) or not ome.get("multiscales"):
        raise VolumeError(
            f"{place} is no image in OME-Zarr 0.5, which has levels: name one such as "
            "volume.zarr/image, or import it first"
        )
    return group, ome["multiscales"][0]


def _publish(group: zarr.Group, entry: dict[str, Any]) -> None:
    ome: Any = group.attrs["ome"]
    several = [entry, *ome["multiscales"][1:]]
    group.update_attributes({"ome": {**ome, "multiscales": several}})


def default_reduction(attributes: Mapping[str, Any], dtype: Any) -> Reduction:
    """ "mode" for what an image's attributes call labels, and for ids of 32 bits or more."""
    ids = np.dtype(dtype).kind in "ui" and np.dtype(dtype).itemsize >= 4
    return "mode" if ids or "image-label" in attributes.get("ome", {}) else "mean"


def _times(a: Triple, b: Triple) -> Triple:
    return (a[0] * b[0], a[1] * b[1], a[2] * b[2])
