"""Synthetic electron microscopy: tangled neurites that fill the volume, with exact labels.

Made to be learnt from without any download: cells touch everywhere, membranes vary in thickness and
contrast, and organelles are as dark as membranes, so a threshold does not find the cells.

1. Random curves, some in bundles (thick processes) and some branching off others, fill space.
2. A voxel belongs to the nearest curve; the partition is warped by smooth noise.
3. Membranes follow the interfaces; what is left of a cell is labelled by connected component.
4. The image is painted from the distance to the interfaces, then blurred, shaded and made noisy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from znn_dask.kernels.geometry import Triple
from znn_dask.kernels.randomness import generator

Float = NDArray[np.float32]
Ids = NDArray[np.uint32]

SPACING = 17.0  # mean distance between neighbouring curves, voxels
MARGIN = 12  # voxels grown around the volume, so that its border looks like its inside
WARP = 5.0  # amplitude of the warp, voxels
SMALLEST = 60  # voxels; smaller remains of a cell become membrane


def synthetic_volume(
    shape: Sequence[int] = (96, 160, 160), seed: int = 0
) -> tuple[NDArray[np.uint8], Ids]:
    """Image uint8 and labels uint32 of `shape` (z,y,x); label 0 is membrane, ids are 1..n.

    A pure function of shape and seed. Every label is one 26-connected piece. About two seconds for
    a million voxels. Raises ValueError for an impossible shape.
    """
    size = tuple(int(n) for n in shape)
    if len(size) != 3 or min(size) < 1:
        raise ValueError(f"shape {size} is not three positive numbers z,y,x")
    z, y, x = size
    labels, distance = _cells((z, y, x), seed)
    return _paint(labels, distance, seed), labels


def _noise(shape: Triple, scale: float, rng: np.random.Generator) -> Float:
    """Smooth noise with features of `scale` voxels and unit deviation."""
    out = rng.standard_normal([int(np.ceil(n / scale)) + 3 for n in shape]).astype(np.float32)
    for axis, n in enumerate(shape):
        out = _stretch(out, axis, n, scale)
    return out / np.float32(max(float(out.std()), 1e-6))


def _stretch(grid: Float, axis: int, n: int, scale: float) -> Float:
    """Cubic B-spline through the grid along one axis, sampled at n voxels."""
    at = np.arange(n) / scale
    left = np.floor(at).astype(int)
    t = (at - left).astype(np.float32)
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    column = [1, 1, 1]
    column[axis] = n
    parts = [np.take(grid, left + k, axis=axis) * w.reshape(column) for k, w in enumerate(weights)]
    return parts[0] + parts[1] + parts[2] + parts[3]


# --- cells ---


@dataclass
class Curves:
    """Points (n, 3) of all curves, and the cell that each belongs to."""

    points: list[NDArray[np.float64]]
    cells: list[int]


def _walk(
    start: NDArray[np.float64], steps: int, wiggle: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """A smooth random walk of unit steps from `start`: (steps, 3)."""
    heading = rng.standard_normal(3)
    turns = ndimage.gaussian_filter1d(rng.standard_normal((steps, 3)), 4.0, axis=0, mode="nearest")
    directions = heading / np.linalg.norm(heading) + wiggle * np.cumsum(turns, axis=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return start + np.cumsum(directions, axis=0)


def _curves(size: NDArray[np.int64], rng: np.random.Generator) -> Curves:
    """Curves whose total length within the box gives one per SPACING x SPACING of cross-section."""
    curves = Curves([], [])
    wanted = float(np.prod(size)) / SPACING**2
    reach = int(size.max()) + 1
    length = 0.0
    cell = 0
    while length < wanted:
        cell += 1
        start = rng.uniform(0, size)
        kind = rng.random()
        there = _walk(start, reach, 0.10, rng)
        back = 2 * start - _walk(start, reach, 0.10, rng)
        trunk = _inside(np.concatenate([back[::-1], there]), size)
        # a thick process is a bundle of curves that winds around its trunk
        strands = int(rng.integers(3, 9)) if kind < 0.3 else 1
        radius = 3.0 * np.sqrt(strands)
        for k in range(strands):
            drift = rng.standard_normal((len(trunk), 3))
            drift = ndimage.gaussian_filter1d(drift, 15.0, axis=0, mode="nearest")
            drift *= (radius if k else 0.0) / max(float(drift.std()), 1e-9) / np.sqrt(3)
            strand = _inside(trunk + drift, size)
            curves.points.append(strand)
            curves.cells.append(cell)
            length += len(strand) if k == 0 else 0.35 * len(strand)
        for _ in range(int(rng.poisson(len(trunk) / 70))):
            twig = trunk[int(rng.integers(len(trunk)))]
            branch = _inside(_walk(twig, int(rng.integers(10, 60)), 0.2, rng), size)
            curves.points.append(branch)
            curves.cells.append(cell)
            length += len(branch)
    return curves


def _inside(points: NDArray[np.float64], size: NDArray[np.int64]) -> NDArray[np.float64]:
    return points[((points >= 0) & (points < size)).all(axis=1)]


def _partition(shape: Triple, rng: np.random.Generator) -> NDArray[np.int32]:
    """Cell of every voxel: nearest curve, seen through a smooth warp."""
    size = np.asarray(shape) + 2 * MARGIN
    curves = _curves(size, rng)
    grid = np.zeros(size, np.int32)
    for points, cell in zip(curves.points, curves.cells, strict=True):
        z, y, x = points.astype(int).T
        grid[z, y, x] = cell
    nearest = ndimage.distance_transform_edt(grid == 0, return_distances=False, return_indices=True)
    grid = grid[tuple(nearest)]
    index = []
    for axis, n in enumerate(shape):
        shift = _noise(shape, 24.0, rng) * np.float32(0.6 * WARP)
        shift += _noise(shape, 9.0, rng) * np.float32(0.2 * WARP)
        line = np.arange(n, dtype=np.float32).reshape([-1 if k == axis else 1 for k in range(3)])
        index.append(np.clip(np.rint(line + shift).astype(np.int32) + MARGIN, 0, size[axis] - 1))
    return grid[tuple(index)]


def _cells(shape: Triple, seed: int) -> tuple[Ids, Float]:
    """Labels, and the distance of each voxel to the nearest interface between cells."""
    rng = generator("synthetic cells", seed)
    cells = _partition(shape, rng)
    interface = np.zeros(shape, bool)
    for axis in range(3):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        interface[tuple(low)] |= cells[tuple(low)] != cells[tuple(high)]
    if interface.any():
        distance = ndimage.distance_transform_edt(~interface).astype(np.float32)
    else:
        distance = np.full(shape, 100, np.float32)
    half = np.clip(1.1 + 0.3 * _noise(shape, 20.0, rng), 1.0, 2.0)
    labels = np.where(distance <= half, 0, cells).astype(np.uint32)
    pieces = cc3d.connected_components(labels, connectivity=26, out_dtype=np.uint32)
    sizes = np.bincount(pieces.ravel())
    keep = sizes >= min(SMALLEST, cells.size)
    keep[0] = False
    names = np.zeros(len(sizes), np.uint32)
    names[keep] = np.arange(1, np.count_nonzero(keep) + 1, dtype=np.uint32)
    return names[pieces], distance


# --- image ---


def _paint(labels: Ids, distance: Float, seed: int) -> NDArray[np.uint8]:
    rng = generator("synthetic image", seed)
    shape = labels.shape
    size = (shape[0], shape[1], shape[2])
    tint = rng.normal(0, 11, int(labels.max()) + 1).astype(np.float32)
    image = tint[labels] + np.float32(178)
    image += 5 * _noise(size, 3.0, rng) + 4 * _noise(size, 10.0, rng)
    _add_mitochondria(image, labels, distance, rng)
    _add_spots(image, labels, distance, rng)
    width = np.clip(1.5 + 0.35 * _noise(size, 14.0, rng), 0.8, 2.6)
    depth = np.clip(88 + 22 * _noise(size, 11.0, rng), 24, 125)  # here and there they nearly vanish
    image -= depth * np.exp(-np.square(distance / width))
    image = ndimage.gaussian_filter(image, (0.7, 0.8, 0.8))
    grain = rng.standard_normal(size, dtype=np.float32)
    image += 7 * grain + 14 * ndimage.gaussian_filter(grain[::-1], 0.8)
    _drift(image, rng)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _add_mitochondria(image: Float, labels: Ids, distance: Float, rng: np.random.Generator) -> None:
    """Dark sausages with a darker skin and striped inside, in the thick parts of cells."""
    dark = np.zeros_like(image)  # the darkest of those that overlap
    roomy = np.flatnonzero(distance > 5)
    for _ in range(min(image.size // 14_000 + 1, len(roomy))):
        centre = np.array(np.unravel_index(int(rng.choice(roomy)), image.shape))
        label = labels[tuple(centre)]
        radius = min(float(distance[tuple(centre)]) - 1.5, rng.uniform(4.0, 10.0))
        line = _walk(centre.astype(float), int(rng.integers(8, 30)), 0.08, rng)
        low = np.maximum(line.min(axis=0).astype(int) - 11, 0)
        high = np.minimum(line.max(axis=0).astype(int) + 12, image.shape)
        if label == 0 or (low >= high).any():
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        free = np.ones(high - low, bool)
        z, y, x = _inside(line - low, high - low).astype(int).T
        free[z, y, x] = False
        depth = radius - ndimage.distance_transform_edt(free)  # positive within
        depth = np.minimum(depth, distance[box] - 2.0)
        depth[labels[box] != label] = -1
        sides = high - low
        wave = _noise((sides[0], sides[1], sides[2]), 6.0, rng) * 2.0
        along = np.indices(tuple(sides)).astype(np.float32).transpose(1, 2, 3, 0)
        heading = rng.standard_normal(3)
        cristae = np.sin(along @ (heading / np.linalg.norm(heading)) * 1.5 + wave)
        inside = depth > 0
        skin = np.exp(-np.square((depth - 0.8) / 0.8))
        drop = np.where(inside, 56 + 15 * cristae + 30 * skin, 0).astype(np.float32)
        np.maximum(dark[box], drop, out=dark[box])
    image -= dark


def _add_spots(image: Float, labels: Ids, distance: Float, rng: np.random.Generator) -> None:
    """Vesicle clusters, scattered granules, and densities on membranes."""
    size = image.size
    spots = np.zeros_like(image)
    inner = np.flatnonzero(distance > 3)
    if len(inner):
        granules = rng.choice(inner, max(1, size // 700))
        spots.ravel()[granules] += rng.uniform(100, 450, len(granules)).astype(np.float32)
        for centre in rng.choice(inner, size // 60_000 + 1):
            middle = np.array(np.unravel_index(int(centre), image.shape))
            cloud = rng.normal(middle, 4.0, (int(rng.integers(25, 70)), 3))
            z, y, x = _inside(cloud, np.asarray(image.shape)).astype(int).T
            same = (labels[z, y, x] == labels[tuple(middle)]) & (distance[z, y, x] > 2)
            spots[z[same], y[same], x[same]] += 700
    image -= ndimage.gaussian_filter(spots, 0.9)
    spots[:] = 0
    borders = np.flatnonzero(distance <= 1)
    if len(borders):
        spots.ravel()[rng.choice(borders, size // 40_000 + 1)] = 4000
        density = np.minimum(ndimage.gaussian_filter(spots, 2.2), 45)
        image -= np.where(distance < 4, density, 0)


def _drift(image: Float, rng: np.random.Generator) -> None:
    """Contrast and brightness that change from slice to slice, and shading within slices."""
    z, y, x = image.shape
    gain = 1 + 0.05 * _noise((z, 1, 1), 6.0, rng) + rng.normal(0, 0.012, (z, 1, 1))
    level = 5 * _noise((z, 1, 1), 12.0, rng) + rng.normal(0, 1.5, (z, 1, 1))
    image -= 128
    image *= gain.astype(np.float32)
    image += (128 + level).astype(np.float32)
    image += 6 * _noise((z, y, x), 70.0, rng)
