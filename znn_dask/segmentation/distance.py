"""How far a voxel is from the boundary, up to a reach.

Beyond the reach all voxels are alike, so a value depends on nothing farther away: blocks of a
volume agree with the whole, bit for bit, where they overlap by the reach.
"""

import numpy as np

# Slices worked on at a time along z, so that the passes over y and x stay in the cache.
_SLAB = 8


def capped_distance(
    inside: np.ndarray, sampling: tuple[float, ...], reach: float, in_plane: bool = False
) -> np.ndarray:
    """Distance of every voxel inside to the nearest voxel that is not, at most `reach`.

    inside: (z, y, x) bool. sampling: voxel edges z, y, x in the unit of `reach`. in_plane: within
    each slice. Returns (z, y, x) float32. What lies beyond the array counts as inside.
    """
    squared = np.where(inside, np.float32(reach * reach), np.float32(0))
    if not in_plane:
        squared = _least(squared, 0, sampling[0], reach)
    for start in range(0, len(squared), _SLAB):
        slab = squared[start : start + _SLAB]
        slab[:] = _least(_least(slab, 1, sampling[1], reach), 2, sampling[2], reach)
    return np.sqrt(squared, out=squared)


def _least(squared: np.ndarray, axis: int, edge: float, reach: float) -> np.ndarray:
    """Least of squared[v + k] + (k * edge)^2 along an axis, over all k within the reach."""
    result = squared.copy()
    source, target = np.moveaxis(squared, axis, 0), np.moveaxis(result, axis, 0)
    for k in range(1, min(int(reach / edge), len(source) - 1) + 1):
        step = np.float32((k * edge) ** 2)
        moved = source + step
        np.minimum(target[k:], moved[:-k], out=target[k:])
        np.minimum(target[:-k], moved[k:], out=target[:-k])
    return result
