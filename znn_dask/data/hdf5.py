"""HDF5 datasets."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from znn_dask.data.metadata import VolumeError
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
        axes = _axes(data)
        yield Reader(
            data.shape,
            data.dtype,
            axes,
            _spacing(data.attrs),
            data.chunks or (1,) * (data.ndim - 2) + data.shape[-2:],
            lambda box: np.asarray(data[box]),
        )


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


def _axes(data: Any) -> str:
    """ilastik's "axistags", or else (z,y,x), with channels before or colours behind."""
    if "axistags" in data.attrs:
        tags = json.loads(data.attrs["axistags"])
        return "".join(axis["key"] for axis in tags["axes"])
    colours = data.ndim == 4 and data.shape[-1] in (3, 4) and data.shape[0] not in (3, 4)
    return "zyxc" if colours else "tczyx"[-data.ndim :]


def _spacing(attributes: Any) -> tuple[float, ...] | None:
    """nm along z, y, x from CREMI's "resolution" or Fiji's "element_size_um", in array order."""
    for key, unit in (("resolution", 1.0), ("voxel_size", 1.0), ("element_size_um", 1e3)):
        if key in attributes:
            values = [float(v) * unit for v in np.ravel(attributes[key])]
            if len(values) == 3 and all(v > 0 and math.isfinite(v) for v in values):
                return tuple(values)
    return None
