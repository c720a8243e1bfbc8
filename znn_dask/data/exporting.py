"""Export of arrays to TIFF, slab by slab and all or nothing."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from znn_dask.data.metadata import VolumeError
from znn_dask.data.volume import describe_array, open_array

_TYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")


def export_tiff(source: str | Path, target: str | Path) -> Path:
    """Write an array (z,y,x) or (c,z,y,x) as OME-TIFF with its voxel size; returns the path.

    source: as for `open_array`. The file appears complete or not at all, and replaces another of
    its name. Ids of 64 bits become 32-bit ones, which is what TIFF programs read.

    Raises VolumeError where there is no array, or ids do not fit 32 bits.
    """
    array, path = open_array(source), Path(target)
    dtype = np.dtype(np.uint32) if array.dtype == np.uint64 else np.dtype(array.dtype)
    if dtype.name not in _TYPES:
        raise VolumeError(
            f"{source} holds {dtype}, which OME-TIFF lacks; it has {', '.join(_TYPES)}"
        )
    described = describe_array(array)
    size = {f"PhysicalSize{a}": s for a, s in zip("ZYX", described.voxel_size, strict=True)}
    units = {f"PhysicalSize{a}Unit": "nm" for a in "ZYX"}
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        tifffile.imwrite(
            temporary,
            _pages(array, dtype, str(source)),
            shape=array.shape,
            dtype=dtype,
            ome=True,
            bigtiff=array.size * dtype.itemsize > 1 << 31,
            photometric="minisblack",
            metadata={"axes": "CZYX"[-array.ndim :], **size, **units},
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _pages(array: zarr.Array, dtype: np.dtype[Any], source: str) -> Iterator[np.ndarray]:
    """Slices (y,x) in the file's order, read in slabs of whole chunks."""
    depth = array.chunks[-3]
    for channel in np.ndindex(array.shape[:-3]):
        for start in range(0, array.shape[-3], depth):
            slab = np.asarray(array[(*channel, slice(start, start + depth))])
            if slab.dtype != dtype and slab.max(initial=0) > np.iinfo(dtype).max:
                raise VolumeError(f"{source} holds id {slab.max()}, beyond the 32 bits of TIFF")
            yield from slab.astype(dtype, copy=False)
