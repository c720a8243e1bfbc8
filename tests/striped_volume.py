"""A small volume that the small network learns at once: bright squares between dark membranes."""

from pathlib import Path

import numpy as np

from znn_dask.data.volume import create_image


def write_volume(path: Path) -> Path:
    """`image` uint8 and `labels` uint32 of (8, 40, 40) voxels, 0 between squares of 7 voxels."""
    rng = np.random.default_rng(1)
    _, y, x = np.indices((8, 40, 40))
    labels = ((y // 8) * 5 + x // 8 + 1) * ((y % 8 > 0) & (x % 8 > 0))
    image = np.where(labels > 0, 170, 60) + rng.normal(0, 20, labels.shape)
    for name, values in (
        ("image", image.clip(0, 255).astype(np.uint8)),
        ("labels", labels.astype(np.uint32)),
    ):
        array = create_image(path, name, values.shape, values.dtype, (8, 20, 20), (40, 4, 4))
        array[...] = values
    return path
