"""Import a foreign volume into a Zarr volume, box by box and all or nothing."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zarr

from znn_dask.data.boxes import rows
from znn_dask.data.conversion import Conversion, conversion
from znn_dask.data.landing import Landing
from znn_dask.data.metadata import (
    VolumeError,
    VoxelSize,
    as_labels,
    checked_voxel_size,
    default_axes,
    multiscales,
)
from znn_dask.data.progress import shown
from znn_dask.data.pyramid import build_pyramid
from znn_dask.data.reader import Reader
from znn_dask.data.readers import HDF5, open_reader
from znn_dask.data.remote import is_local, location, zarr_store
from znn_dask.data.volume import checked_name, create_item, open_array, open_volume

BOX_BYTES = 16 * 2**20  # what is read at a time, about; a box is at least one chunk


def import_image(
    source: str | Path,
    volume_path: str | Path,
    name: str = "image",
    voxel_size: Sequence[float] | None = None,
    *,
    axes: str | None = None,
    labels: bool | None = None,
    chunks: Sequence[int] | None = None,
    pyramid: bool = True,
    overwrite: bool = False,
    progress: bool = True,
) -> zarr.Array:
    """Copy `source` into item `name` of the volume (made if absent); returns its array.

    The item appears when it is complete. An import that is interrupted leaves the volume as it was
    (in an object store: without an item that was to be replaced), and is continued when the same
    one is started again.

    Parameters
    ----------
    source
        TIFF stack, folder of slices, "file.h5:/dataset", or Zarr (v2 too), N5 or Neuroglancer
        precomputed data, in a folder or behind a URL ("precomputed://gs://bucket/volume").
    volume_path
        Folder, or URL of an object store.
    voxel_size
        (z,y,x) in nm; else the source's own, else that of the volume's other items, else 1.
    axes
        The source's axes, a letter of t, c, z, y, x each, where it does not say or is wrong.
    labels
        Whether these are ids, by default if the name starts with "labels": stored unsigned, colours
        (RGB) become ids red * 65536 + green * 256 + blue. An item "mask" becomes 0 and 1.
    chunks
        One edge per axis.
    pyramid
        Build lower resolutions too (`build_pyramid`).

    Raises
    ------
    VolumeError
        For unreadable sources and for names that are taken, unless `overwrite`.
    """
    checked_name(name)
    landing = Landing(location(volume_path), name)
    landing.check_free(overwrite)
    ids = name.startswith("labels") if labels is None else labels
    scratch = _scratch(landing.root)
    with open_reader(source, axes, scratch) as reader:
        stored = conversion(str(source), reader, ids, name == "mask")
        size = _voxel_size(voxel_size, reader, landing.root)
        record = {
            "source": str(source),
            "state": _state(str(source)),
            "axes": axes,
            "voxel_size": list(size),
            "shape": list(stored.shape),
            "dtype": str(stored.dtype),
            "chunks": None if chunks is None else list(chunks),
            "ids": ids,
        }
        begun = landing.begun(record)
        try:
            _fill(landing, record, begun, reader, stored, progress)
        except VolumeError:  # the source is no good: there is nothing to continue
            landing.discard()
            raise
    attributes = multiscales(name, default_axes(len(stored.shape)), size)
    landing.appear(as_labels(attributes, "../image") if ids else attributes)
    if pyramid:
        build_pyramid(landing.final, "mode" if ids or name == "mask" else "mean", progress=progress)
    return open_array(landing.final)


def _fill(
    landing: Landing,
    record: dict[str, Any],
    group: zarr.Group | None,
    reader: Reader,
    stored: Conversion,
    progress: bool,
) -> None:
    """Copy box after box into the item, going on where an interrupted import left `group`."""
    if group is None:
        array = create_item(
            landing.place,
            *("", landing.name, stored.shape, stored.dtype),
            chunks=record["chunks"],
            attributes=landing.record(record),
        )
        group = zarr.open_group(zarr_store(landing.place), mode="r+", zarr_format=3)
    else:
        array = group["0"]  # type: ignore[assignment]
    every_channel = [slice(0, n) for n in reader.shape[:-3]]
    width = max(reader.dtype.itemsize, stored.dtype.itemsize)
    voxels = BOX_BYTES // (math.prod(reader.shape[:-3]) * width)
    unit = (array.shards or array.chunks)[-3:]
    every = list(rows(array.shape[-3:], unit, reader.chunks[-3:], voxels))
    done = landing.done(group)
    missing = shown(every[done:], f"import {landing.name}", len(every), "boxes", progress, done)
    for number, box in enumerate(missing, start=done + 1):
        z, y, x = box
        array[..., z, y, x] = stored.apply(reader.read((*every_channel, z, y, x)))
        landing.progress(group, number)


def _voxel_size(given: Sequence[float] | None, reader: Reader, root: str) -> VoxelSize:
    if given is not None:
        return checked_voxel_size(given)
    if reader.voxel_size is not None:
        return checked_voxel_size(reader.voxel_size)
    try:
        volume = open_volume(root)
    except VolumeError:  # a new one
        return (1.0, 1.0, 1.0)
    return volume.voxel_size if volume.names else (1.0, 1.0, 1.0)


def _scratch(root: str) -> Path | None:
    """Folder on the disk that the volume is on; None where that is not this machine's."""
    folder = Path(root).absolute().parent
    return folder if is_local(root) and folder.is_dir() else None


def _state(source: str) -> str:
    """Size and age of a source file: another state is another source."""
    match = HDF5.fullmatch(source)
    try:
        found = os.stat(match["file"] if match else source)
    except OSError:
        return ""
    return f"{found.st_size} bytes, {found.st_mtime_ns} ns"
