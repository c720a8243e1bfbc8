"""Open a foreign volume by its name: TIFF, slices, HDF5, Zarr, N5, Neuroglancer precomputed."""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.hdf5 import open_hdf5
from znn_dask.data.metadata import VolumeError
from znn_dask.data.pages import Pages
from znn_dask.data.reader import Reader, ordered
from znn_dask.data.remote import is_local
from znn_dask.data.tensor_store import open_tensor_store
from znn_dask.data.tiff import open_tiff
from znn_dask.data.volume import open_array, recorded

HDF5 = re.compile(r"(?P<file>.+\.(?:h5|hdf5|hdf))(?::(?P<dataset>.+))?", re.IGNORECASE)
FORMAT = re.compile(r"(?P<format>precomputed|n5|zarr)://(?P<place>.+)")
TIFF_SUFFIXES = (".tif", ".tiff")
SLICE_SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp")


@contextmanager
def open_reader(
    source: str | Path, axes: str | None = None, scratch: Path | None = None
) -> Iterator[Reader]:
    """Open `source` by its name, as (z,y,x) or (c,z,y,x).

    source: *.tif, a folder of slices, file.h5:/dataset, or a folder or URL of Zarr, N5 or
        precomputed data; "precomputed://URL", "n5://URL" or "zarr://URL" say which.
    axes: letters in the source's order, where it does not say or is wrong, such as "xyz".
    scratch: folder for decoded slices that memory has no room for.

    Raises VolumeError when it is missing or not understood.
    """
    with _found(str(source), scratch) as reader:
        yield ordered(reader, str(source), axes)


@contextmanager
def _found(text: str, scratch: Path | None) -> Iterator[Reader]:
    hdf5, prefix = HDF5.fullmatch(text), FORMAT.fullmatch(text)
    place = prefix["place"] if prefix else text
    path = Path(hdf5["file"] if hdf5 else place)
    if is_local(place) and not path.exists():
        raise VolumeError(f"nothing to import at {path}: check the path")
    kind = prefix["format"] if prefix else _kind(place)
    if kind in ("n5", "precomputed"):
        with open_tensor_store(place, kind) as reader:  # type: ignore[arg-type]
            yield reader
    elif kind == "zarr" or not is_local(place):
        yield _zarr_reader(place)
    elif hdf5 and path.is_file():
        with open_hdf5(path, hdf5["dataset"]) as reader:
            yield reader
    elif path.is_file() and path.suffix.lower() in TIFF_SUFFIXES:
        with open_tiff(path, scratch) as reader:
            yield reader
    elif path.is_dir() and (slices := _slices(path)):
        with _folder_reader(slices, scratch) as reader:
            yield reader
    elif path.is_dir():
        yield _zarr_reader(place)
    else:
        raise VolumeError(
            f"cannot import {path}: expected .tif, .h5, a folder of slices, or a Zarr, N5 or "
            "precomputed folder"
        )


def _kind(place: str) -> str | None:
    """Format of a folder or URL by its name and files, where they tell."""
    if re.search(r"\.n5(/|$)", place):
        return "n5"
    if not is_local(place):
        return "precomputed" if re.search(r"\.precomputed/?$", place) else None
    if (Path(place) / "info").is_file():
        return "precomputed"
    return "n5" if (Path(place) / "attributes.json").is_file() else None


def _zarr_reader(place: str) -> Reader:
    array = open_array(place)
    about = recorded(array)
    names = array.metadata.dimension_names if array.metadata.zarr_format == 3 else None
    said = "".join(n or "?" for n in names or ())
    axes = said if len(said) == array.ndim and set(said) <= set("tczyx") else "tczyx"[-array.ndim :]
    spacing: tuple[float, ...] | None = None
    if about is not None:
        along = dict(zip("zyx", about.voxel_size, strict=True))
        axes, spacing = about.axes, tuple(along[a] for a in about.axes if a in along)
    return Reader(
        array.shape,
        array.dtype,
        axes,
        spacing,
        array.shards or array.chunks,
        lambda box: np.asarray(array[box]),
    )


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
        with open_tiff(path) as raw:
            reader = ordered(raw, str(path))
            if reader.shape[-3] != 1:
                raise VolumeError(f"{path} has {reader.shape[-3]} pages: expected one slice a file")
            data = reader.read(tuple(slice(0, n) for n in reader.shape))
        return np.moveaxis(data[:, 0], 0, -1) if data.ndim == 4 else data[0]
    from skimage.io import imread

    return np.asarray(imread(path))


@contextmanager
def _folder_reader(files: list[Path], scratch: Path | None) -> Iterator[Reader]:
    first = _read_slice(files[0])
    if first.ndim not in (2, 3):
        raise VolumeError(f"{files[0]} has shape {first.shape}: expected (y,x) or (y,x,c)")
    page, dtype = first.shape, first.dtype
    del first

    def decode(index: tuple[int, ...], out: NDArray[Any]) -> None:
        path = files[index[0]]
        plane = _read_slice(path)
        if plane.shape != page or plane.dtype != dtype:
            raise VolumeError(
                f"{path} is {plane.shape} {plane.dtype}, the first slice is {page} {dtype}: "
                "make all slices alike"
            )
        out[...] = plane

    with closing(Pages((len(files),), page, dtype, decode, scratch)) as pages:
        axes = "zyxc"[: 1 + len(page)]
        yield Reader((len(files), *page), dtype, axes, None, (1, *page), pages.read)
