"""Between ZNN's array layout and the channels-last layout of the arithmetic.

ZNN's maps are (channel, z, y, x) and its kernels (in, out, kz, ky, kx); here maps are (z, y, x,
channel) and kernels (kz, ky, kx, in, out), so that every channel vector is contiguous.
"""

import numpy as np
from numpy.typing import DTypeLike

from znn_dask.kernels.memory import aligned_copy


def map_from_znn(array: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """Map (c, z, y, x) to a new aligned (z, y, x, c), of `dtype` or as it is."""
    return aligned_copy(np.moveaxis(array, 0, -1), dtype)


def map_to_znn(array: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """Map (z, y, x, c) to a new aligned (c, z, y, x), of `dtype` or as it is."""
    return aligned_copy(np.moveaxis(array, -1, 0), dtype)


def kernels_from_znn(array: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """Kernels (in, out, kz, ky, kx) to a new aligned (kz, ky, kx, in, out)."""
    return aligned_copy(array.transpose(2, 3, 4, 0, 1), dtype)


def kernels_to_znn(array: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """Kernels (kz, ky, kx, in, out) to a new aligned (in, out, kz, ky, kx)."""
    return aligned_copy(array.transpose(3, 4, 0, 1, 2), dtype)
