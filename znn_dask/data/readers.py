"""Open a foreign volume by its name: TIFF, a folder of slices, HDF5, Zarr."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.hdf5 import open_hdf5
from znn_dask.data.metadata import VolumeError
from znn_dask.data.reader import Reader
from znn_dask.data.tiff import open_tiff
from znn_dask.data.volume import describe_array, open_array

HDF5 = re.compile(r"(?P<file>.+\.(?:h5|hdf5|hdf))(?::(?P<dataset>.+))?", re.IGNORECASE)
TIFF_SUFFIXES = (".tif", ".tiff")
SLICE_SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp")


@contextmanager
def open_reader(source: str | Path) -> Iterator[Reader]:
    """Open `source` by its name: *.tif, a folder of slices, file.h5:/dataset, or Zarr.

    Raises VolumeError when it is missing or not understood.
    """
    text = str(source)
    match = HDF5.fullmatch(text)
    path = Path(match["file"] if match else text)
    if not path.exists():
        raise VolumeError(f"nothing to import at {path}: check the path")
    if match and path.is_file():
        with open_hdf5(path, match["dataset"]) as reader:
            yield reader
    elif path.is_file() and path.suffix.lower() in TIFF_SUFFIXES:
        with open_tiff(path) as reader:
            yield reader
    elif path.is_dir() and (found := _slices(path)):
        yield _folder_reader(found)
    elif path.is_dir():
        yield _zarr_reader(path)
    else:
        raise VolumeError(
            f"cannot import {path}: expected .tif, .h5, a folder of slices, or a Zarr folder"
        )


def _zarr_reader(path: Path) -> Reader:
    array = open_array(path)
    about = describe_array(array)
    size = about.voxel_size if about.path else None
    return Reader(array.shape, array.dtype, size, lambda a, b: np.asarray(array[..., a:b, :, :]))


def _natural(path: Path) -> list[Any]:
    """Sort key by which slice_10 follows slice_9."""
    parts = re.split(r"(\d+)", path.name)
    return [int(p) if k % 2 else p for k, p in enumerate(parts)]


def _slices(folder: Path) -> list[Path]:
    files = [p for p in folder.iterdir() if p.suffix.lower() in SLICE_SUFFIXES and p.is_file()]
    return sorted((p for p in files if not p.name.startswith(".")), key=_natural)


def _read_slice(path: Path) -> NDArray[Any]:
    """One picture (y,x) or (y,x,c)."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        with open_tiff(path) as reader:
            if reader.shape[-3] != 1:
                raise VolumeError(f"{path} has {reader.shape[-3]} pages: expected one slice a file")
            data = np.asarray(reader.read(0, 1))
        return np.moveaxis(data[:, 0], 0, -1) if data.ndim == 4 else data[0]
    from skimage.io import imread

    return np.asarray(imread(path))


def _folder_reader(files: list[Path]) -> Reader:
    first = _read_slice(files[0])
    if first.ndim not in (2, 3):
        raise VolumeError(f"{files[0]} has shape {first.shape}: expected (y,x) or (y,x,c)")

    def read(a: int, b: int) -> NDArray[Any]:
        planes = []
        for path in files[a:b]:
            plane = _read_slice(path)
            if plane.shape != first.shape or plane.dtype != first.dtype:
                raise VolumeError(
                    f"{path} is {plane.shape} {plane.dtype}, the first slice is {first.shape} "
                    f"{first.dtype}: make all slices alike"
                )
            planes.append(plane)
        stack = np.stack(planes)
        return np.moveaxis(stack, -1, 0) if stack.ndim == 4 else stack

    shape = (len(files), *first.shape[:2])
    channels = first.shape[2:]
    return Reader((*channels, *shape), first.dtype, None, read)
