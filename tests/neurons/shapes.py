"""Objects of known shape."""

import numpy as np


def distances(shape: tuple[int, int, int], start: tuple, end: tuple) -> np.ndarray:
    """From the middle of each voxel (z, y, x) to the line between two points, in voxels."""
    points = np.stack(np.indices(shape), axis=-1) + 0.5
    along = np.subtract(end, start)
    share = np.clip((points - start) @ along / (along @ along), 0, 1)
    result: np.ndarray = np.linalg.norm(points - start - share[..., None] * along, axis=-1)
    return result


def ball(shape: tuple[int, int, int], centre: tuple, radius: float) -> np.ndarray:
    """(z, y, x) bool."""
    points = np.stack(np.indices(shape), axis=-1) + 0.5
    inside: np.ndarray = np.linalg.norm(points - centre, axis=-1) < radius
    return inside


def some_objects(seed: int = 3) -> np.ndarray:
    """(30, 34, 38) uint32: ids 1 to 12, that touch one another and all sides, with holes."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).random((12, 30, 34, 38))
    smooth = ndimage.gaussian_filter(noise, (0, 2.5, 2.5, 2.5))
    objects: np.ndarray = (np.argmax(smooth, axis=0) + 1).astype(np.uint32)
    objects[ndimage.gaussian_filter(noise[0], 1) > 0.56] = 0
    return objects
