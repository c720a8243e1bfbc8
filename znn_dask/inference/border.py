"""Reading a box of an image that may reach beyond its edges."""

from typing import Any

import numpy as np

from znn_dask.inference.blocks import Box


def symmetric_index(index: np.ndarray, length: int) -> np.ndarray:
    """Index into an axis of `length` voxels continued symmetrically for ever (edge repeated)."""
    folded = index % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def read_box(image: Any, region: Box) -> np.ndarray:
    """Voxels `region` (z,y,x) of `image` (z,y,x) or (c,z,y,x), symmetric beyond the edges.

    Only the part that is needed is read.  Gives an array of the image's dtype and axis order.
    Equal to `np.pad(image, ..., mode="symmetric")[region]`, however far the box reaches out.
    """
    lead = (slice(None),) * (image.ndim - 3)
    shape = image.shape[-3:]
    if all(s.start >= 0 and s.stop <= n for s, n in zip(region, shape, strict=True)):
        return np.asarray(image[(*lead, *region)])
    indices = [
        symmetric_index(np.arange(s.start, s.stop), n) for s, n in zip(region, shape, strict=True)
    ]
    held = tuple(slice(int(i.min()), int(i.max()) + 1) for i in indices)
    data = np.asarray(image[(*lead, *held)])
    for axis, (i, s) in enumerate(zip(indices, held, strict=True)):
        data = np.take(data, i - s.start, axis=axis - 3)
    return data
