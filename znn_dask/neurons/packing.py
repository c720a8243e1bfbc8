"""Meshes and image as a few bytes for the viewer (page/viewer.js unpacks them)."""

import base64
import gzip
from collections.abc import Sequence

import numpy as np

STEPS = 65535
"""Positions that a vertex can have along an axis of its mesh's box."""


def column(values: np.ndarray, width: int) -> bytes:
    """Numbers (n,) of `width` bytes as their differences, byte by byte: few bits after gzip."""
    dtype = np.dtype(f"<u{width}")
    differences = np.diff(values.astype(dtype), prepend=dtype.type(0))
    return differences.view(np.uint8).reshape(-1, width).T.tobytes()


def pack_mesh(
    vertices: np.ndarray, faces: np.ndarray, openness: np.ndarray
) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Bytes of a mesh, with the corner and the size (x, y, z) of its box.

    vertices: (n, 3); faces: (m, 3); openness: (n,) from 0, hidden from all light, to 1.
    """
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    size = np.maximum(high - low, 1e-3)
    steps = np.rint((vertices - low) / size * STEPS)
    turn = (np.argmin(faces, axis=1)[:, None] + np.arange(3)) % 3
    faces = np.take_along_axis(faces, turn, axis=1)
    faces = faces[np.lexsort((faces[:, 2], faces[:, 1], faces[:, 0]))]
    parts = [column(steps[:, axis], 2) for axis in range(3)]
    parts.append(np.rint(255 * openness).astype(np.uint8).tobytes())
    parts += [column(faces[:, corner], 4) for corner in range(3)]
    return b"".join(parts), low, size


def compressed(parts: Sequence[bytes]) -> str:
    """All parts as base64 text of one gzip stream."""
    return base64.b64encode(gzip.compress(b"".join(parts), 9, mtime=0)).decode("ascii")
