"""A small volume that a small network learns at once: bright squares between dark membranes."""

from pathlib import Path

import numpy as np

from znn_dask.data.volume import create_image
from znn_dask.network import Network

NETWORK = (
    Network()
    .input()
    .conv("c1", 4, (1, 5, 5))
    .max_filter("p1", (1, 2, 2), (1, 2, 2))
    .conv("c2", 5, (2, 3, 3), "tanh")
    .dropout("d", 0.8)
    .conv("c3", 2, (1, 1, 1), "linear", node="output")
)
OUTPUT = (2, 6, 6)


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
