"""How images become smaller: which axes are halved, and what becomes of their voxels."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.metadata import VoxelSize
from znn_dask.kernels.geometry import Triple

Reduction = Literal["mean", "mode"]

SMALLEST = 64  # voxels: a level without a longer axis is the last one


def halvings(shape: Sequence[int], voxel_size: VoxelSize) -> list[Triple]:
    """Which axes of an image (z,y,x) each lower level halves, 1 or 2 per axis, from the top down.

    Axes with voxels within sqrt(2) of the shortest edge (nm) are halved, so that anisotropic voxels
    become isotropic first. The last level is at most 64 voxels long.
    """
    size, voxel = list(shape[-3:]), list(voxel_size)
    found: list[Triple] = []
    while max(size) > SMALLEST:
        shortest = min(v for v, n in zip(voxel, size, strict=True) if n > 1)
        halved = [n > 1 and v < math.sqrt(2) * shortest for v, n in zip(voxel, size, strict=True)]
        z, y, x = (2 if h else 1 for h in halved)
        found.append((z, y, x))
        size = [-(-n // f) for n, f in zip(size, found[-1], strict=True)]
        voxel = [v * f for v, f in zip(voxel, found[-1], strict=True)]
    return found


def reduced(block: NDArray[Any], factors: Triple, reduction: Reduction) -> NDArray[Any]:
    """`block` (..., z,y,x) with axes halved where the factor is 2; same dtype, lengths rounded up.

    "mean": of the voxels that become one (a last odd one stands for itself), integers rounded half
    up; "mode": the most frequent value, of equally frequent ones the first in z,y,x order. So ids
    are never mixed.
    """
    odd = [n % f for n, f in zip(block.shape[-3:], factors, strict=True)]
    if any(odd):
        pad = [(0, 0)] * (block.ndim - 3) + [(0, o) for o in odd]
        block = np.pad(block, pad, mode="edge")
    parts = []
    for corner in itertools.product(*(range(f) for f in factors)):
        z, y, x = (slice(c, None, f) for c, f in zip(corner, factors, strict=True))
        parts.append(block[..., z, y, x])
    if len(parts) == 1:
        return block
    return _mean(parts) if reduction == "mean" else _mode(parts)


def _mean(parts: list[NDArray[Any]]) -> NDArray[Any]:
    dtype, count = parts[0].dtype, len(parts)
    whole = dtype.kind in "bui" and dtype.itemsize < 8
    total: NDArray[Any] = parts[0].astype(np.int64 if whole else np.float64)
    for part in parts[1:]:
        total += part
    if whole:
        return ((total + count // 2) // count).astype(dtype)
    mean = total / count
    return (np.rint(mean) if dtype.kind in "ui" else mean).astype(dtype)


def _mode(parts: list[NDArray[Any]]) -> NDArray[Any]:
    out = np.array(parts[0], order="C")
    mixed = np.zeros(out.shape, bool)
    for part in parts[1:]:
        mixed |= part != out
    # Most voxels lie inside an object: only those at borders are counted.
    values = np.stack([part[mixed] for part in parts])
    votes = np.stack([(values == value).sum(axis=0, dtype=np.uint8) for value in values])
    out[mixed] = values[votes.argmax(axis=0), np.arange(values.shape[1])]
    return out
