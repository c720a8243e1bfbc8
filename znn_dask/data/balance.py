"""Weights that give both classes of a target the same say (ZNN's rebalancing)."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.targets import Target

Balance = Literal["none", "global", "patch"]
Pair = tuple[float, float]  # weight where the target is 1, and where it is 0


def patch_pair(positive: float, negative: float) -> Pair:
    """(negative, positive) shares of all voxels; (1, 1) when a class is absent."""
    if positive == 0 or negative == 0:
        return 1.0, 1.0
    total = positive + negative
    return negative / total, positive / total


def global_pair(positive: float, negative: float) -> Pair:
    """(N / 2 positive, N / 2 negative), N = all voxels; (1, 1) when a class is absent."""
    if positive == 0 or negative == 0:
        return 1.0, 1.0
    half = 0.5 * (positive + negative)
    return half / positive, half / negative


def counts(target: NDArray[Any], mask: NDArray[Any] | None) -> NDArray[np.float64]:
    """Values that are 1 and values that are 0 among those that count: (channels, 2)."""
    flat = target.reshape(-1, target.shape[-1])
    if mask is None:
        positive = flat.sum(axis=0, dtype=np.float64)
        return np.stack([positive, flat.shape[0] - positive], axis=-1)
    weights = mask.reshape(flat.shape)
    positive = (flat * weights).sum(axis=0, dtype=np.float64)
    return np.stack([positive, weights.sum(axis=0, dtype=np.float64) - positive], axis=-1)


def pairs(target: Target, counted: NDArray[np.float64], balance: Balance) -> tuple[Pair, ...]:
    """One pair of weights per channel from `counts` of a patch or of a whole volume.

    ZNN uses the global formula only for boundary maps; affinities always take the patch formula.
    Both boundary channels share the weights of the voxel, those of the inside channel.
    """
    if target.kind == "affinity":
        return tuple(patch_pair(float(p), float(n)) for p, n in counted)
    formula = global_pair if balance == "global" else patch_pair
    positive, negative = (float(v) for v in counted[0])
    return (formula(positive, negative),)


def weight_map(target: NDArray[Any], chosen: tuple[Pair, ...]) -> NDArray[np.float32]:
    """Weights (z,y,x,c) float32 for a target (z,y,x,c) of zeros and ones."""
    if len(chosen) == 1:  # boundary: by the class of the voxel, the same in both channels
        one, zero = chosen[0]
        voxel = np.where(target[..., :1] > 0, np.float32(one), np.float32(zero))
        return np.repeat(voxel, target.shape[-1], axis=-1)
    out = np.empty(target.shape, np.float32)
    for c, (one, zero) in enumerate(chosen):
        out[..., c] = np.where(target[..., c] > 0, np.float32(one), np.float32(zero))
    return out
