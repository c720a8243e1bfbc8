"""Slices of a volume's items as small pictures, read so that even huge volumes show at once."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from znn_dask.data.metadata import VoxelSize, parse_multiscales
from znn_dask.data.volume import Volume
from znn_dask.report.colours import grey, overlay

EDGE = 260  # pixels of a picture, at most
READ = 512  # voxels read along each side of a slice, at most: of a larger one the middle is shown
_RANGE = (0.5, 99.5)  # percent of the voxels between black and white
AXES = "zyx"


@dataclass(frozen=True)
class Item:
    """An image of a volume, (z, y, x) or (c, z, y, x), in all resolutions from the full one down.

    `voxel_size` is that of the full resolution, in nm.
    """

    name: str
    levels: tuple[zarr.Array, ...]
    voxel_size: VoxelSize

    @property
    def array(self) -> zarr.Array:
        """The full resolution."""
        return self.levels[0]

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
    return {
        name: Item(name, _levels(volume[name]), volume.metadata(name).voxel_size) for name in names
    }


def plane(item: Item, axis: int, position: int, level: int) -> np.ndarray:
    """A slice across `axis` (0, 1, 2 for z, y, x), its middle where it is larger than `READ`.

    Returns (rows, columns), or (rows, columns, 3) of an item with three channels; of other
    channels the first. Voxels are left out where there are more than a picture has pixels.
    """
    array = item.levels[level]
    index: list[Any] = []
    for k, (n, full) in enumerate(zip(array.shape[-3:], item.shape, strict=True)):
        start = max(0, (n - READ) // 2)
        index.append(position * n // full if k == axis else slice(start, start + READ))
    colours = array.ndim == 4 and array.shape[0] == 3
    channels = [slice(None) if colours else 0] if array.ndim == 4 else []
    values = np.asarray(array[(*channels, *index)])
    if colours:
        values = np.moveaxis(values, 0, -1)
    step = -(-max(values.shape[:2]) // EDGE)
    return values[::step, ::step]


def coarse(item: Item, axis: int) -> int:
    """The lowest resolution whose slices across `axis` still fill a picture."""
    last = 0
    for number, level in enumerate(item.levels):
        if max(n for k, n in enumerate(level.shape[-3:]) if k != axis) >= EDGE:
            last = number
    return last


def _levels(full: zarr.Array) -> tuple[zarr.Array, ...]:
    """The array, and the lower resolutions that its image has."""
    above = full.path.strip("/").rpartition("/")[0]
    group = zarr.open_group(full.store, path=above, mode="r") if full.path else None
    if group is None or parse_multiscales(group.attrs) is None:
        return (full,)
    entry: Any = group.attrs.get("ome", group.attrs)
    lower = [group[dataset["path"]] for dataset in entry["multiscales"][0]["datasets"][1:]]
    return (full, *(level for level in lower if isinstance(level, zarr.Array)))


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


@dataclass(frozen=True)
class Shot:
    """A slice as a JPEG, and the size (width, height) in pixels that has its true proportions."""

    jpeg: bytes
    width: float
    height: float


def shoot(image: Item | None, over: Item | None, axis: int, position: int, edge: float) -> Shot:
    """A slice of an image, of ids or a mask, or of these over the image; all of one shape.

    `edge`: pixels of the longer side.
    """
    shown = [item for item in (image, over) if item is not None]
    level = min(coarse(item, axis) for item in shown)
    planes = [
        None if item is None else plane(item, axis, position, level) for item in (image, over)
    ]
    rgb = painted(planes[0], planes[1], shown[-1].kind)
    sizes = (size for k, size in enumerate(shown[0].voxel_size) if k != axis)
    voxels = (n for k, n in enumerate(shown[0].shape) if k != axis)
    # what was cut off is cut off in proportion of the level's voxels
    cuts = (n for k, n in enumerate(shown[0].levels[level].shape[-3:]) if k != axis)
    height, width = (
        size * n * min(1.0, READ / cut) for size, n, cut in zip(sizes, voxels, cuts, strict=True)
    )
    scale = edge / max(height, width)
    return Shot(jpeg(rgb), max(8.0, width * scale), max(8.0, height * scale))


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
