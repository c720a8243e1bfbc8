"""What the page is looked at for: a small training and a small prediction."""

from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

import znn_dask
from znn_dask.data import create_image
from znn_dask.network import Network
from znn_dask.training.trainer import Trainer

NETWORK = (
    Network()
    .input()
    .conv("c1", 6, (3, 3, 3))
    .max_filter("p1", (1, 2, 2), (1, 2, 2))
    .conv("c2", 8, (3, 5, 5), "tanh")
    .conv("c3", 2, (1, 1, 1), "linear", node="output")
)


def write_volume(path: Path) -> Path:
    """A small volume with an image and its labels."""
    image, labels = znn_dask.synthetic_volume((40, 48, 48), seed=1)
    for name, values in (("image", image), ("labels", labels)):
        create_image(path, name, values.shape, values.dtype)[...] = np.asarray(values)
    return path


def trainer(volume: Path, folder: Path, client: Client, **settings: Any) -> Trainer:
    """Of tiled FFTs, so that there are spectra."""
    options: dict[str, Any] = {
        "validation": str(volume),
        "validate_every": 20,
        "validation_patches": 2,
        "checkpoint_every": 1000,
        "algorithm": "tiled",
        **settings,
    }
    return Trainer(
        *(NETWORK, str(volume), (4, 8, 8)), folder=folder, client=client, progress=False, **options
    )
