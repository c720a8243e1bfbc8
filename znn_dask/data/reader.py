"""What importing needs to know of a foreign volume, and how it becomes (z,y,x) or (c,z,y,x)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.metadata import VolumeError, VoxelSize

Box = tuple[slice, ...]
Read = Callable[[Box], NDArray[Any]]


@dataclass(frozen=True)
class Reader:
    """A foreign array as it lies in its file.

    axes: a letter per axis, of t, c, z, y, x. spacing: nm along those of z, y, x, in the order of
    the file, or None where it does not say. chunks: edges of the boxes that are read most cheaply.
    `read(box)` gives the voxels of a box with plain starts and stops, decoded.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    spacing: tuple[float, ...] | None
    chunks: tuple[int, ...]
    read: Read

    @property
    def voxel_size(self) -> VoxelSize | None:
        """(z,y,x) in nm, 1 along an axis that is not there; None where the source says nothing."""
        if self.spacing is None:
            return None
        along = _along(self.axes, self.spacing)
        return along.get("z", 1.0), along.get("y", 1.0), along.get("x", 1.0)


def ordered(reader: Reader, source: str, axes: str | None = None) -> Reader:
    """The same voxels as (z,y,x) or (c,z,y,x); single time points and channels go.

    axes: letters in the order of the source, where the user knows better. A single picture (y,x)
    gets a z axis. Raises VolumeError for axes that do not fit.
    """
    have = reader.axes if axes is None else axes.lower()
    shape = reader.shape
    valid = set(have) <= set("tczyx") and len(set(have)) == len(have) and {"y", "x"} <= set(have)
    if len(have) != len(shape) or not valid:
        raise VolumeError(
            f"{source} has shape {shape} and axes {have!r}: say one letter of t, c, z, y, x for "
            "each axis, such as --axes zyx"
        )
    sizes = dict(zip(have, shape, strict=True))
    if sizes.get("t", 1) > 1:
        raise VolumeError(
            f"{source} has {sizes['t']} time points: save one of them as a stack, or name the axes "
            f"if they are slices, such as --axes {have.replace('t', 'z')}"
        )
    wanted = ["c"] * (sizes.get("c", 1) > 1) + ["z", "y", "x"]

    def read(box: Box) -> NDArray[Any]:
        along = dict(zip(wanted, box, strict=True))
        data = reader.read(tuple(along.get(a, slice(0, 1)) for a in have))
        kept = [a for a in have if a in wanted]
        data = data.reshape([n for n, a in zip(data.shape, have, strict=True) if a in wanted])
        if "z" not in kept:
            data, kept = data[None], ["z", *kept]
        return data.transpose([kept.index(a) for a in wanted])

    chunks = dict(zip(have, reader.chunks, strict=True))
    spacing = None if reader.spacing is None else _along(have, reader.spacing)
    return Reader(
        tuple(sizes.get(a, 1) for a in wanted),
        reader.dtype,
        "".join(wanted),
        None if spacing is None else tuple(spacing.get(a, 1.0) for a in "zyx"),
        tuple(chunks.get(a, 1) for a in wanted),
        read,
    )


def _along(axes: str, spacing: tuple[float, ...]) -> dict[str, float]:
    """nm by axis."""
    return dict(zip((a for a in axes if a in "zyx"), spacing, strict=False))
