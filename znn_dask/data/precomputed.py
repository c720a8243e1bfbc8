"""Export to Neuroglancer's precomputed format, all resolutions, block by block."""

import functools
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from znn_dask.data.boxes import cubes
from znn_dask.data.metadata import VolumeError, VoxelSize, origin
from znn_dask.data.progress import shown
from znn_dask.data.pyramid import default_reduction, reduce_block
from znn_dask.data.reduction import Reduction, halvings
from znn_dask.data.remote import is_local, location
from znn_dask.data.spread import spread
from znn_dask.data.tensor_store import key_value_store, reason, tensorstore
from znn_dask.data.volume import describe_array, image_attributes, open_array
from znn_dask.kernels.geometry import Triple

if TYPE_CHECKING:
    from distributed import Client

CHUNK = 64
BLOCK_EDGE = 128
TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "float32")


def export_precomputed(
    source: str | Path,
    target: str | Path,
    *,
    labels: bool | None = None,
    client: "Client | None" = None,
    threads: int | None = None,
    progress: bool = False,
) -> str:
    """Write an array (z,y,x) or (c,z,y,x) as precomputed volume with its lower resolutions.

    source: as for `open_array`. target: new folder, or URL that tensorstore can write (s3, gs). A
    folder appears complete or not at all; behind a URL the volume is complete when this returns.
    labels: write a segmentation, by default where the metadata says that they are labels and for
    unsigned integers of 32 bits or more. Values stay exact, except that lower resolutions of images
    are means. client: Dask client whose workers write; None: `threads` of this process. Returns
    where it is.

    Raises VolumeError where there is no such array or its type is none that Neuroglancer reads.
    """
    array, place = open_array(source), location(target)
    attributes = image_attributes(array)
    how = default_reduction(attributes, array.dtype)
    if labels is not None:
        how = "mode" if labels else "mean"
    dtype = np.dtype(array.dtype)
    if dtype.name not in TYPES or (how == "mode" and dtype.kind != "u"):
        kind = "segmentations" if how == "mode" else "images"
        raise VolumeError(
            f"{source} holds {dtype}, which Neuroglancer's {kind} lack; they have "
            f"{', '.join(t for t in TYPES if how == 'mean' or t[0] == 'u')}"
        )
    size = describe_array(array).voxel_size
    offset = origin(attributes, size)
    path = Path(place)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        scales = _scales(str(partial) if is_local(place) else place, array, how, size, offset)
        for number, (above, scale, factors) in enumerate(scales, start=1):
            unit = (1,) * (scale.ndim - 3) + (CHUNK,) * 3
            every = list(cubes(scale.shape, unit, BLOCK_EDGE))
            work = functools.partial(reduce_block, above, scale, unit, factors, how)
            finished = spread(work, every, name="precomputed", client=client, threads=threads)
            title = f"{path.name}, resolution {number}"
            for _ in shown(finished, title, len(every), "blocks", progress):
                pass
        if is_local(place):
            _replace(partial, path)
    except ValueError as error:
        raise VolumeError(f"{place} cannot be written: {reason(error)}") from error
    finally:
        if is_local(place):
            shutil.rmtree(partial, ignore_errors=True)
    return place


def _scales(
    place: str, array: zarr.Array, how: Reduction, size: VoxelSize, offset: Triple
) -> Iterator[tuple[Any, Any, Triple]]:
    """(what it is made from, new array, voxels of the former along one of the latter), each as
    (z,y,x) or (c,z,y,x); the full resolution first. Each must be filled before the next is asked
    for."""
    ts = tensorstore(place)
    above: Any = array
    dtype = np.dtype(array.dtype)
    total = (1, 1, 1)
    for factors in ((1, 1, 1), *halvings(array.shape, size)):
        z, y, x = (t * f for t, f in zip(total, factors, strict=True))
        total = (z, y, x)
        ids = how == "mode" and dtype.itemsize >= 4
        shape = [-(-n // f) for n, f in zip(above.shape[-3:], factors, strict=True)]
        scale = {
            "size": shape[::-1],
            "resolution": [v * t for v, t in zip(size, total, strict=True)][::-1],
            "voxel_offset": [o // t for o, t in zip(offset, total, strict=True)][::-1],
            "chunk_size": [CHUNK] * 3,
            "encoding": "compressed_segmentation" if ids else "raw",
            **({"compressed_segmentation_block_size": [8, 8, 8]} if ids else {}),
        }
        specification = {
            "driver": "neuroglancer_precomputed",
            "kvstore": key_value_store(place),
            "multiscale_metadata": {
                "type": "segmentation" if how == "mode" else "image",
                "data_type": dtype.name,
                "num_channels": array.shape[0] if array.ndim == 4 else 1,
            },
            "scale_metadata": scale,
        }
        stored = ts.open(specification, create=True).result()
        channels = stored[ts.d[:].translate_to[0]].T  # (c,z,y,x)
        made = channels if array.ndim == 4 else channels[0]
        yield above, made, factors
        above = made


def _replace(new: Path, path: Path) -> None:
    """Give a complete folder its name, in place of what had it."""
    former = path.with_name(f".{path.name}.{uuid.uuid4().hex}.former")
    if path.exists():
        os.rename(path, former)
    os.rename(new, path)
    shutil.rmtree(former, ignore_errors=True)
