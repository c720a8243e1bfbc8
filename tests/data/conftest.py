"""Small volumes in real Zarr stores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from znn_dask.data.volume import create_image

Make = Callable[..., Path]


@pytest.fixture
def make_volume(tmp_path: Path) -> Make:
    """make_volume(image=array, labels=array, ..., name="v") writes a volume, chunks of 8."""

    def make(name: str = "v", chunk: int = 8, **items: Any) -> Path:
        path = tmp_path / f"{name}.zarr"
        for item, data in items.items():
            chunks = (1,) * (data.ndim - 3) + (chunk,) * 3
            array = create_image(path, item, data.shape, data.dtype, chunks, (40, 4, 4))
            array[...] = data
        return path

    return make


@pytest.fixture
def coordinates() -> Callable[[tuple[int, int, int]], np.ndarray]:
    """A volume whose every voxel value says where it is."""

    def volume(shape: tuple[int, int, int]) -> np.ndarray:
        return np.arange(np.prod(shape), dtype=np.uint32).reshape(shape) + 1

    return volume
