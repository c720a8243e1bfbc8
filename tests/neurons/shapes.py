"""Objects of known shape."""

from pathlib import Path

import numpy as np
import zarr

from znn_dask.data import create_image


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


def write_objects(
    volume: Path,
    objects: np.ndarray,
    voxel_size: tuple[float, float, float] = (1, 1, 1),
    offset: tuple[int, int, int] = (0, 0, 0),
) -> str:
    """Write objects that begin at a voxel of the specimen into a volume; returns their path."""
    create_image(volume, "objects", objects.shape, objects.dtype, voxel_size=voxel_size)[...] = (
        objects
    )
    group = zarr.open_group(str(volume), path="objects", mode="r+")
    ome = dict(group.attrs["ome"])
    begin = [float(o * s) for o, s in zip(offset, voxel_size, strict=True)]
    steps = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    steps[:] = [steps[0], {"type": "translation", "translation": begin}]
    group.attrs["ome"] = ome
    return f"{volume}/objects"
