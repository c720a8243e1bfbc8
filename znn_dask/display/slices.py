"""Slices of a volume's items as small pictures, read so that even huge volumes show at once."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from znn_dask.data.metadata import VoxelSize
from znn_dask.data.volume import Volume
from znn_dask.report.colours import grey, overlay

READ = 512  # voxels read along each side of a slice, at most: the middle of a larger one
EDGE = 260  # pixels of a picture, at most
_RANGE = (0.5, 99.5)  # percent of the voxels between black and white
AXES = "zyx"


@dataclass(frozen=True)
class Item:
    """An image of a volume, (z, y, x) or (c, z, y, x), and the size of its voxels in nm."""

    name: str
    array: zarr.Array
    voxel_size: VoxelSize

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels z, y, x."""
        z, y, x = self.array.shape[-3:]
        return z, y, x

    @property
    def kind(self) -> str:
        """ "labels", "mask", or "image"."""
        if "mask" in self.name:
            return "mask"
        integers = np.issubdtype(self.array.dtype, np.integer)
        ids = integers and self.array.ndim == 3 and self.array.dtype.itemsize >= 4
        return "labels" if ids or self.name.startswith(("labels", "objects")) else "image"


def items(volume: Volume) -> dict[str, Item]:
    """The items of a volume by name, "image" first."""
    names = sorted(volume.names, key=lambda name: (name != "image", name))
    return {name: Item(name, volume[name], volume.metadata(name).voxel_size) for name in names}


def plane(item: Item, axis: int, position: int) -> np.ndarray:
    """A slice across `axis` (0, 1, 2 for z, y, x), its middle where it is larger than `READ`.

    Returns (rows, columns), or (rows, columns, 3) of an item with three channels; of other
    channels the first. Voxels are left out where there are more than a picture has pixels.
    """
    index: list[Any] = []
    for k, n in enumerate(item.shape):
        start = max(0, (n - READ) // 2)
        index.append(position if k == axis else slice(start, start + READ))
    colours = item.array.ndim == 4 and item.array.shape[0] == 3
    channels = [slice(None) if colours else 0] if item.array.ndim == 4 else []
    values = np.asarray(item.array[(*channels, *index)])
    if colours:
        values = np.moveaxis(values, 0, -1)
    step = -(-max(values.shape[:2]) // EDGE)
    return values[::step, ::step]


def painted(image: np.ndarray | None, over: np.ndarray | None, kind: str) -> np.ndarray:
    """RGB (rows, columns, 3) float32 in [0, 1]: a slice in grey, ids or a mask in colour over it.

    `kind` says what `over` is: "labels" or "mask".
    """
    if image is None:
        assert over is not None
        background = np.zeros((*over.shape, 3), np.float32)
    elif image.ndim == 3:  # three maps as red, green and blue
        background = np.clip(_stretched(image), 0, 1)
    else:
        low, high = np.percentile(image, _RANGE)
        background = grey(image, float(low), float(high))
    if over is None:
        return background
    if kind == "mask":
        outside = over == 0
        background = background.copy()
        background[outside] = 0.35 * background[outside] + np.array([0.30, 0.06, 0.04], np.float32)
        return background
    return overlay(background, over)


def _stretched(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, _RANGE)
    stretched: np.ndarray = (image.astype(np.float32) - low) / max(float(high - low), 1e-6)
    return stretched.astype(np.float32)


def size_on_page(
    item: Item, axis: int, pixels: tuple[int, int], edge: float
) -> tuple[float, float]:
    """(width, height) in pixels that show a slice in its physical proportions."""
    high, wide = (size for k, size in enumerate(item.voxel_size) if k != axis)
    height, width = pixels[0] * high, pixels[1] * wide
    scale = edge / max(height, width)
    return max(8.0, width * scale), max(8.0, height * scale)


def jpeg(rgb: np.ndarray) -> bytes:
    """(rows, columns, 3) in [0, 1] as the bytes of a JPEG; small slices are enlarged."""
    from PIL import Image

    picture = Image.fromarray((rgb * 255).round().astype(np.uint8))
    times = max(1, EDGE // max(picture.size))
    picture = picture.resize(
        (picture.width * times, picture.height * times), Image.Resampling.NEAREST
    )
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
