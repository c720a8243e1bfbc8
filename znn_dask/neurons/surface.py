"""Surfaces of objects on the lattice of voxels, block by block, and their joining.

Marching cubes of a mask puts every vertex half-way between two neighbouring voxels, so vertices are
integers in half voxels and those of neighbouring blocks are equal where they meet.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage
from skimage.measure import marching_cubes

from znn_dask.neurons.objects import Triple, numbered

_BITS = 21
_MASK = np.uint64((1 << _BITS) - 1)

Piece = tuple[np.ndarray, np.ndarray]
"""Keys of vertices (n,) uint64 and triangles (m, 3) uint32 of an object in a block."""


def pack(half: np.ndarray) -> np.ndarray:
    """Keys (n,) uint64 of positions (n, 3) z, y, x in half voxels."""
    z, y, x = half.astype(np.uint64).T
    packed: np.ndarray = z << np.uint64(2 * _BITS) | y << np.uint64(_BITS) | x
    return packed


def unpack(keys: np.ndarray) -> np.ndarray:
    """Positions (n, 3) int64 z, y, x in half voxels, of which voxel v takes 2v to 2v + 2."""
    shifts = (np.uint64(2 * _BITS), np.uint64(_BITS), np.uint64(0))
    return np.stack([keys >> shift & _MASK for shift in shifts], axis=1).astype(np.int64)


def surfaces(labels: np.ndarray, lower: Triple, ids: Sequence[int]) -> Iterator[tuple[int, Piece]]:
    """The surfaces of objects in the cells between the voxels of `labels` (z, y, x).

    lower: voxel of the volume at which `labels` begins; ids: the objects that are wanted. An object
    that fills `labels`, or is not there, has none. Triangles are counter-clockwise seen from
    outside in a right-handed x, y, z.
    """
    wanted, numbers = numbered(labels, ids)
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        if box is None:
            continue
        # One voxel more to all sides that `labels` has: the surface lies between voxels.
        around = tuple(
            slice(max(0, s.start - 1), min(s.stop + 1, n))
            for s, n in zip(box, labels.shape, strict=True)
        )
        mask = numbers[around] == number
        if mask.all() or min(mask.shape) < 2:
            continue
        # This method of the two decides ambiguous cells alike on both sides of a face, so that
        # surfaces of masks are closed, each edge between two triangles (docs/decisions/0028).
        corners, faces, _, _ = marching_cubes(mask.astype(np.float32), 0.5, method="lorensen")
        origin = np.array([s.start + low for s, low in zip(around, lower, strict=True)])
        half = np.rint(2 * corners).astype(np.int64) + (2 * origin + 1)
        yield int(wanted[number - 1]), (pack(half), faces.astype(np.uint32))


def join(pieces: Sequence[Piece]) -> Piece:
    """One surface of the pieces of all blocks, vertices and triangles in an order of their own.

    So the same object has the same surface, to the bit, whatever the blocks were.
    """
    keys = np.concatenate([keys for keys, _ in pieces])
    starts = np.cumsum([0, *(len(keys) for keys, _ in pieces)])
    faces = np.concatenate(
        [faces.astype(np.int64) + start for (_, faces), start in zip(pieces, starts, strict=False)]
    )
    unique, place = np.unique(keys, return_inverse=True)
    faces = place[faces]
    # The least vertex first, which keeps the sense of rotation.
    turn = (np.argmin(faces, axis=1)[:, None] + np.arange(3)) % 3
    faces = np.take_along_axis(faces, turn, axis=1)
    order = np.lexsort((faces[:, 2], faces[:, 1], faces[:, 0]))
    return unique, faces[order].astype(np.uint32)
