"""Synthetic truth and maps for the segmentation tests."""

import numpy as np
from scipy import ndimage


def voronoi(shape: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    """Labels (uint32, 1..count): every voxel belongs to its nearest random point."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (count, len(shape))) * shape
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    squared = ((grid[..., None, :] - points) ** 2).sum(-1)
    return (np.argmin(squared, -1) + 1).astype(np.uint32)


def boundary_map(
    labels: np.ndarray, *, noise: float, seed: int, in_plane: bool = False
) -> np.ndarray:
    """Blurred boundary probability (z, y, x) float32 with correlated noise."""
    boundary = np.zeros(labels.shape, np.float32)
    for axis in (1, 2) if in_plane else (0, 1, 2):
        ids, along = np.moveaxis(labels, axis, 0), np.moveaxis(boundary, axis, 0)
        different = ids[1:] != ids[:-1]
        along[1:][different] = 1
        along[:-1][different] = 1
    sigma = (0, 0.8, 0.8) if in_plane else (0.8, 0.8, 0.8)
    boundary = ndimage.gaussian_filter(boundary, sigma)
    rng = np.random.default_rng(seed)
    random = ndimage.gaussian_filter(rng.normal(size=labels.shape).astype(np.float32), sigma)
    result: np.ndarray = np.clip(boundary + noise / random.std() * random, 0, 1)
    return result


def affinity_map(labels: np.ndarray, *, noise: float, seed: int) -> np.ndarray:
    """Affinities (3, z, y, x) float32 with channels x, y, z to the voxel before."""
    affinity = np.zeros((3, *labels.shape), np.float32)
    for channel, axis in enumerate((2, 1, 0)):
        ids = np.moveaxis(labels, axis, 0)
        np.moveaxis(affinity[channel], axis, 0)[1:] = ids[1:] == ids[:-1]
    rng = np.random.default_rng(seed)
    result: np.ndarray = np.clip(affinity + noise * rng.normal(size=affinity.shape), 0, 1)
    return result.astype(np.float32)
