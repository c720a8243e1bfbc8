"""What importing needs to know of a foreign volume."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.metadata import VoxelSize

Read = Callable[[int, int], NDArray[Any]]


@dataclass(frozen=True)
class Reader:
    """A foreign volume (z,y,x) or (c,z,y,x); `read(a, b)` gives slices a..b of z, decoded."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    voxel_size: VoxelSize | None
    read: Read
