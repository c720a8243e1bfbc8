"""What the voxels of a foreign volume become: ids, a mask, or an image as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.metadata import VolumeError
from znn_dask.data.reader import Reader


@dataclass(frozen=True)
class Conversion:
    """How voxels are stored: shape and dtype of the array, and `apply` for a block of them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    apply: Callable[[NDArray[Any]], NDArray[Any]]


def conversion(source: str, reader: Reader, ids: bool, mask: bool) -> Conversion:
    """What becomes of the voxels (z,y,x) or (c,z,y,x) of `reader`: ids, a mask, or an image.

    Raises VolumeError where they cannot become that; `apply` does so for values that are no ids.
    """
    kind = reader.dtype.kind
    if kind not in "buif":
        raise VolumeError(f"{source} holds {reader.dtype}: expected integers or floats")
    if not ids:
        if mask:
            return Conversion(reader.shape, np.dtype(np.uint8), lambda b: (b > 0).astype(np.uint8))
        wide = kind == "f" and reader.dtype.itemsize != 4
        narrow = np.dtype(np.uint8) if kind == "b" else reader.dtype.newbyteorder("=")
        dtype = np.dtype(np.float32) if wide else narrow
        return Conversion(reader.shape, dtype, lambda block: block.astype(dtype, copy=False))
    if len(reader.shape) == 4:
        if reader.shape[0] not in (3, 4) or reader.dtype != np.uint8:
            raise VolumeError(
                f"{source} is {reader.shape} {reader.dtype}: labels have one channel of ids, "
                "or three of colours (uint8)"
            )
        return Conversion(reader.shape[1:], np.dtype(np.uint32), colours_to_ids)
    dtype = np.dtype(f"u{reader.dtype.itemsize}") if kind in "ui" else np.dtype(np.uint32)
    if kind == "b":
        dtype = np.dtype(np.uint8)

    def unsigned(block: NDArray[Any]) -> NDArray[Any]:
        out = block.astype(dtype)
        if kind in "if" and (block.min(initial=0) < 0 or not np.array_equal(out, block)):
            raise VolumeError(
                f"{source} holds {reader.dtype} values that are not ids (whole numbers >= 0), "
                f"from {block.min()} to {block.max()}: import it as an image"
            )
        return out

    return Conversion(reader.shape, dtype, unsigned)


def colours_to_ids(block: NDArray[Any]) -> NDArray[np.uint32]:
    """24-bit ids (z,y,x) from colours (3 or 4,z,y,x) uint8; a fourth channel (alpha) is dropped."""
    red, green, blue = (block[k].astype(np.uint32) for k in range(3))
    return (red << np.uint32(16)) | (green << np.uint32(8)) | blue
