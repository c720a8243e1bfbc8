"""A look at a volume for notebooks: the middle slice of every item."""

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

if TYPE_CHECKING:
    from znn_dask.data.volume import Volume

EDGE = 256  # pixels of a thumbnail, at most
READ = 1024  # voxels read along y and x, at most: a huge slice is shown by its middle


def colour_labels(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Label ids (y,x) as distinct colours (y,x,3) uint8; id 0 is black."""
    ids = labels.astype(np.uint64)
    mixed = ids * np.uint64(0x9E3779B97F4A7C15)  # multiplicative hashing; uint64 wraps around
    channels = [(mixed >> np.uint64(s)) & np.uint64(0xFF) for s in (56, 48, 40)]
    colours = np.stack(channels, axis=-1).astype(np.float64) * 0.75 + 64
    colours[ids == 0] = 0
    return colours.astype(np.uint8)


def thumbnail(array: zarr.Array, *, labels: bool) -> NDArray[np.uint8]:
    """Middle z slice of (z,y,x) or (c,z,y,x) as (y,x,3) uint8, by skipping voxels."""
    z, y, x = array.shape[-3:]
    sides = [slice(max(0, (n - READ) // 2), max(0, (n - READ) // 2) + READ) for n in (y, x)]
    index: tuple[Any, ...] = (*((0,) * (array.ndim - 3)), z // 2, *sides)
    plane = np.asarray(array[index])
    step = -(-max(plane.shape) // EDGE)
    plane = plane[::step, ::step]
    if labels:
        return colour_labels(plane)
    low, high = np.percentile(plane.astype(np.float64), (0.5, 99.5))
    grey = np.clip((plane - low) / max(high - low, 1e-12), 0, 1) * 255
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)


def volume_html(volume: "Volume") -> str:
    """One figure per item: picture, name, shape, type and voxel size."""
    import matplotlib.image

    figures = []
    for name in volume.names:
        array, about = volume[name], volume.metadata(name)
        if about.axes not in ("zyx", "czyx"):
            continue
        buffer = io.BytesIO()
        matplotlib.image.imsave(buffer, thumbnail(array, labels="label" in name), format="png")
        data = base64.b64encode(buffer.getvalue()).decode()
        size = " x ".join(f"{v:g}" for v in about.voxel_size)
        shape = " x ".join(map(str, array.shape))
        caption = f"<b>{html.escape(name)}</b> {shape} {array.dtype}<br>voxel {size} nm"
        figures.append(
            '<figure style="display:inline-block;margin:4px">'
            f'<img src="data:image/png;base64,{data}" alt="{html.escape(name)}">'
            f"<figcaption>{caption}</figcaption></figure>"
        )
    return f"<div><code>{html.escape(volume.path)}</code><br>{''.join(figures)}</div>"
