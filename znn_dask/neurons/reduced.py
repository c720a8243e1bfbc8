"""An image in few voxels, to look at."""

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from znn_dask.data.metadata import VolumeError, VoxelSize
from znn_dask.neurons.errors import NeuronError
from znn_dask.neurons.objects import origin
from znn_dask.segmentation.maps import OpenedMap, open_map

_READ_AT_ONCE = 1 << 24
_FINER = 8
"""Voxels that a level must have for each one that is wanted: boxes are whole numbers of voxels."""


@dataclass(frozen=True)
class Reduced:
    """voxels: (z, y, x) uint8. origin, size: (x, y, z) nm of the image; part: (x, y, z), how much
    of the voxels along each axis the image takes (the last ones may reach beyond it)."""

    voxels: np.ndarray
    origin: np.ndarray
    size: np.ndarray
    part: np.ndarray


def reduce_image(image: Any, most: int, *, voxel_size: VoxelSize | None = None) -> Reduced:
    """Means over boxes of voxels, so that at most about `most` are left, from black to white.

    image: path, Zarr or numpy array, (z, y, x) or (c, z, y, x) (the first channel). Boxes are as
    near to cubes in nm as whole voxels allow. Read slab by slab, of an image with lower levels the
    lowest that has voxels enough. Raises NeuronError, VolumeError.
    """
    opened = open_map(image)
    if len(opened.shape) not in (3, 4):
        raise NeuronError(f"{opened.source} has shape {opened.shape}; an image is z,y,x or c,z,y,x")
    begin = np.array(origin(opened, voxel_size))
    size = np.array(opened.shape[-3:]) * np.array(voxel_size or opened.voxel_size)
    opened = _level(image, opened, most)
    shape = np.array(opened.shape[-3:])
    steps = _steps(shape, size / shape, most)
    means = _means(opened, steps)
    low, high = np.percentile(means, (0.5, 99.5))
    grey = np.clip((means - low) * (255 / max(float(high - low), 1e-6)), 0, 255).astype(np.uint8)
    part = shape / (np.array(means.shape) * steps)
    return Reduced(grey, begin[::-1], size[::-1], part[::-1])


def _level(image: Any, opened: OpenedMap, most: int) -> OpenedMap:
    """The lowest level "1", "2", ... of an image with so many voxels that boxes fit well."""
    if not isinstance(image, str | Path):
        return opened
    for number in count(1):
        try:
            lower = open_map(f"{image}/{number}")
        except VolumeError:
            break
        if np.prod(lower.shape[-3:]) < _FINER * most:
            break
        opened = lower
    return opened


def _steps(shape: np.ndarray, spacing: np.ndarray, most: int) -> np.ndarray:
    """Voxels (z, y, x) per box: the smallest near-cubes that leave at most `most`."""
    edge = float(spacing.min())
    while True:
        steps = np.maximum(1, np.rint(edge / spacing)).astype(np.int64)
        if np.prod(-(-shape // steps)) <= most:
            return steps
        edge *= 1.05


def _means(opened: OpenedMap, steps: np.ndarray) -> np.ndarray:
    """(z, y, x) float32 means of boxes of `steps` voxels, the last ones of what there is."""
    shape = opened.shape[-3:]
    means = np.empty(tuple(-(-n // s) for n, s in zip(shape, steps, strict=True)), np.float32)
    depth = int(steps[0]) * max(1, _READ_AT_ONCE // (shape[1] * shape[2] * int(steps[0])))
    for start in range(0, shape[0], depth):
        where = (0,) * (len(opened.shape) - 3) + (slice(start, start + depth),)
        slab = np.asarray(opened.array[where]).astype(np.float32)
        for axis, step in enumerate(steps.tolist()):
            edges = np.arange(0, slab.shape[axis], step)
            counts = np.diff(edges, append=slab.shape[axis])
            slab = np.add.reduceat(slab, edges, axis=axis)
            slab /= counts.reshape([-1 if a == axis else 1 for a in range(3)])
        first = start // int(steps[0])
        means[first : first + len(slab)] = slab
    return means
