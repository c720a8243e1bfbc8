"""HDF5 datasets."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.metadata import VolumeError, VoxelSize
from znn_dask.data.reader import Reader


@contextmanager
def open_hdf5(path: Path, dataset: str | None) -> Iterator[Reader]:
    try:
        import h5py
    except ImportError as error:
        raise VolumeError(f"{path} needs h5py: pip install 'znn-dask[formats]'") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise VolumeError(f"{path} is not a readable HDF5 file: {error}") from error
    with file:
        data = file[_dataset_name(path, file, dataset, h5py.Dataset)]
        rgb = data.ndim == 4 and data.shape[-1] in (3, 4) and data.shape[0] not in (3, 4)
        if data.ndim not in (3, 4):
            raise VolumeError(f"{path}:{data.name} has shape {data.shape}: expected (z,y,x)")

        def read(a: int, b: int) -> NDArray[Any]:
            if rgb:
                return np.moveaxis(data[a:b], -1, 0)
            return np.asarray(data[a:b] if data.ndim == 3 else data[:, a:b])

        shape = (data.shape[-1], *data.shape[:3]) if rgb else data.shape
        yield Reader(shape, data.dtype, _hdf5_voxel_size(data.attrs), read)


def _dataset_name(path: Path, file: Any, dataset: str | None, kind: type) -> str:
    names: list[str] = []
    file.visititems(lambda name, node: names.append(name) if isinstance(node, kind) else None)
    have = ", ".join("/" + n for n in names[:8]) or "no dataset"
    if dataset is not None:
        if dataset.strip("/") not in names:
            raise VolumeError(f"{path} has no dataset {dataset}, it has {have}")
        return dataset.strip("/")
    if "main" in names:  # the name that ZNN uses
        return "main"
    if len(names) == 1:
        return names[0]
    raise VolumeError(f"{path} has {have}: say which one, such as {path}:/{(names or ['main'])[0]}")


def _hdf5_voxel_size(attributes: Any) -> VoxelSize | None:
    """(z,y,x) nm from CREMI's "resolution" or ilastik's "element_size_um"."""
    for key, unit in (("resolution", 1.0), ("voxel_size", 1.0), ("element_size_um", 1e3)):
        if key in attributes:
            values = [float(v) * unit for v in np.ravel(attributes[key])]
            if len(values) == 3 and all(v > 0 and math.isfinite(v) for v in values):
                return values[0], values[1], values[2]
    return None
