"""Import a foreign volume into a Zarr volume, slab by slab and all or nothing."""

import math
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from znn_dask.data.metadata import VolumeError, VoxelSize, checked_voxel_size
from znn_dask.data.reader import Reader
from znn_dask.data.readers import open_reader
from znn_dask.data.volume import (
    checked_name,
    create_item,
    default_chunks,
    is_local,
    open_array,
    open_volume,
)

SLAB_BYTES = 256 * 2**20  # what a slab of whole chunks may take in memory


def import_image(
    source: str | Path,
    volume_path: str | Path,
    name: str = "image",
    voxel_size: Sequence[float] | None = None,
    *,
    labels: bool | None = None,
    chunks: Sequence[int] | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> zarr.Array:
    """Copy `source` into item `name` of the volume (made if absent); returns its array.

    source: TIFF stack, folder of slices, "file.h5:/dataset", or Zarr (v2 too).
    voxel_size: (z,y,x) in nm; else the source's own, else that of the volume's other items, else 1.
    labels: whether these are ids, by default if the name starts with "labels": stored unsigned,
    colours (RGB) become ids red * 65536 + green * 256 + blue. An item "mask" becomes 0 and 1.
    chunks: one edge per axis; the source is read in slabs of one chunk along z.

    The item appears when it is complete; an import that is interrupted leaves the volume as it was.
    Raises VolumeError for unreadable sources and for names that are taken, unless `overwrite`.
    """
    checked_name(name)
    if not is_local(str(volume_path)):
        raise VolumeError(f"cannot import into {volume_path}: import to a folder, then copy it")
    root = Path(volume_path)
    if (root / name).exists() and not overwrite:
        raise VolumeError(f"{root} already has {name!r}: use another name or overwrite")
    ids = name.startswith("labels") if labels is None else labels
    with open_reader(source) as reader:
        convert, shape, dtype = _conversion(str(source), reader, ids, name == "mask")
        size = _voxel_size(voxel_size, reader, root)
        edges = _chunks(shape, dtype) if chunks is None else tuple(chunks)
        with _appearing(root, name) as partial:
            array = create_item(partial, "", name, shape, dtype, chunks=edges, voxel_size=size)
            for z in _slabs(shape[-3], array.chunks[-3], name, progress):
                array[..., z, :, :] = convert(np.asarray(reader.read(z.start, z.stop)))
    return open_array(root / name)


def _slabs(depth: int, step: int, name: str, progress: bool) -> Iterator[slice]:
    """z ranges of whole chunks, with a progress bar on standard error."""
    columns = (
        TextColumn("import {task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} slices"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task(name, total=depth)
        for start in range(0, depth, step):
            stop = min(start + step, depth)
            yield slice(start, stop)
            bar.update(task, completed=stop)


def _chunks(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Default chunks, flatter where the slices are so large that 64 of them fill the memory."""
    chunks = default_chunks(shape)
    plane = math.prod(shape) // shape[-3] * dtype.itemsize
    depth = max(1, min(chunks[-3], SLAB_BYTES // plane))
    return (*chunks[:-3], depth, *chunks[-2:])


def _voxel_size(given: Sequence[float] | None, reader: Reader, root: Path) -> VoxelSize:
    if given is not None:
        return checked_voxel_size(given)
    if reader.voxel_size is not None:
        return checked_voxel_size(reader.voxel_size)
    if (root / "zarr.json").exists():
        volume = open_volume(root)
        if volume.names:
            return volume.voxel_size
    return (1.0, 1.0, 1.0)


# --- what the voxels become ---


def _conversion(source: str, reader: Reader, ids: bool, mask: bool) -> tuple[Any, Any, Any]:
    """(function on slabs, shape, dtype) for storage."""
    kind = reader.dtype.kind
    if kind not in "buif":
        raise VolumeError(f"{source} holds {reader.dtype}: expected integers or floats")
    if not ids:
        if mask:
            return (lambda block: (block > 0).astype(np.uint8)), reader.shape, np.dtype(np.uint8)
        wide = kind == "f" and reader.dtype.itemsize != 4
        narrow = np.dtype(np.uint8) if kind == "b" else reader.dtype.newbyteorder("=")
        dtype = np.dtype(np.float32) if wide else narrow
        return (lambda block: block.astype(dtype, copy=False)), reader.shape, dtype
    if len(reader.shape) == 4:
        if reader.shape[0] not in (3, 4) or reader.dtype != np.uint8:
            raise VolumeError(
                f"{source} is {reader.shape} {reader.dtype}: labels have one channel of ids, "
                "or three of colours (uint8)"
            )
        return colours_to_ids, reader.shape[1:], np.dtype(np.uint32)
    dtype = np.dtype(f"u{reader.dtype.itemsize}") if kind in "ui" else np.dtype(np.uint32)
    if kind == "b":
        dtype = np.dtype(np.uint8)

    def unsigned(block: NDArray[Any]) -> NDArray[Any]:
        out = block.astype(dtype)
        if kind in "if" and (block.min(initial=0) < 0 or not np.array_equal(out, block)):
            raise VolumeError(
                f"{source} holds {reader.dtype} values that are not ids (whole numbers >= 0), "
                f"from {block.min()} to {block.max()}: import it as an image"
            )
        return out

    return unsigned, reader.shape, dtype


def colours_to_ids(block: NDArray[Any]) -> NDArray[np.uint32]:
    """24-bit ids (z,y,x) from colours (3 or 4,z,y,x) uint8; a fourth channel (alpha) is dropped."""
    red, green, blue = (block[k].astype(np.uint32) for k in range(3))
    return (red << np.uint32(16)) | (green << np.uint32(8)) | blue


# --- all or nothing ---


@contextmanager
def _appearing(root: Path, name: str) -> Iterator[Path]:
    """A folder to write the item into; it takes its name in the volume when the block succeeds."""
    _sweep(root, name)
    existed = root.exists()
    partial = root / f".{name}.partial-{socket.gethostname()}-{os.getpid()}"
    replaced = partial.with_name(partial.name.replace(".partial-", ".replaced-", 1))
    partial.mkdir(parents=True)
    try:
        yield partial
        zarr.open_group(str(root), mode="a", zarr_format=3)
        if (root / name).exists():
            (root / name).rename(replaced)
        partial.rename(root / name)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if not existed and not any(root.iterdir()):
            root.rmdir()
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _sweep(root: Path, name: str) -> None:
    """Remove what imports left behind that were killed on this machine."""
    for kind in ("partial", "replaced"):
        prefix = f".{name}.{kind}-{socket.gethostname()}-"
        for left in root.glob(f"{prefix}*"):
            pid = left.name.removeprefix(prefix)
            if pid.isdigit() and not _alive(int(pid)):
                shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
