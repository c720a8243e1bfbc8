"""Export of arrays to TIFF, box by box and all or nothing."""

import itertools
import os
import uuid
from pathlib import Path

import numpy as np
import tifffile

from znn_dask.data.boxes import rows
from znn_dask.data.metadata import VolumeError
from znn_dask.data.progress import shown
from znn_dask.data.volume import describe_array, open_array

_TYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
BOX_BYTES = 16 * 2**20


def export_tiff(source: str | Path, target: str | Path, *, progress: bool = False) -> Path:
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
            shape=array.shape,
            dtype=dtype,
            ome=True,
            bigtiff=array.size * dtype.itemsize > 1 << 31,
            photometric="minisblack",
            metadata={"axes": "CZYX"[-array.ndim :], **size, **units},
        )
        with tifffile.TiffFile(temporary) as empty:
            offset = empty.series[0].dataoffset
        unit = (array.shards or array.chunks)[-3:]
        boxes = list(rows(array.shape[-3:], unit, (1, 1, 1), BOX_BYTES // dtype.itemsize))
        every = list(itertools.product(np.ndindex(array.shape[:-3]), boxes))
        for channel, box in shown(every, f"export {path.name}", len(every), "boxes", progress):
            voxels = np.asarray(array[(*channel, *box)])
            if voxels.dtype != dtype and voxels.max(initial=0) > np.iinfo(dtype).max:
                raise VolumeError(f"{source} holds id {voxels.max()}, beyond the 32 bits of TIFF")
            # Mapped anew for every box: pages of the last one do not stay counted as ours.
            mapped = np.memmap(temporary, dtype, "r+", offset, array.shape)
            mapped[(*channel, *box)] = voxels
            del mapped
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
