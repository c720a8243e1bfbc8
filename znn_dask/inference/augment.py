"""Averaging predictions over the flips and transposes of the input.

A flip of the input flips the output, except for affinities: channel `a` of voxel `v` is the
affinity between `v` and `v - 1`, and in the flipped image that pair is counted at the other voxel,
so after flipping back it stands one voxel too low:

    image        0   1   2   3        affinity of (1, 2) is stored at 2
    flipped      3   2   1   0        affinity of (2, 1) is stored at 1: move it up by one

A transpose of y and x exchanges the affinities of these axes.  Moving needs one more computed voxel
below each block (`margin`); a voxel whose source does not exist is averaged over the others.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from znn_dask.inference.blocks import Box, Triple, box_shape, box_start, triple

# Affinity channels are x, y, z: channel c belongs to spatial axis 2 - c.
AFFINITY_CHANNELS = 3


@dataclass(frozen=True)
class Variant:
    """Flips along (z, y, x), then a transpose of y and x."""

    flips: tuple[bool, bool, bool] = (False, False, False)
    transpose: bool = False

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(a for a in range(3) if self.flips[a])

    def apply(self, x: np.ndarray) -> np.ndarray:
        """(z,y,x,c) -> (z,y,x,c), or (z,x,y,c) if it transposes; a view."""
        flipped = np.flip(x, self._axes)
        return flipped.swapaxes(1, 2) if self.transpose else flipped

    def undo(self, y: np.ndarray) -> np.ndarray:
        """Inverse of `apply`; a view."""
        straight = y.swapaxes(1, 2) if self.transpose else y
        return np.flip(straight, self._axes)

    def shape(self, size: Triple) -> Triple:
        """Shape of `apply` of a map of `size`."""
        z, y, x = size
        return (z, x, y) if self.transpose else size

    def source(self, channel: int, affinity: bool) -> tuple[int, Triple]:
        """(channel of the undone output, voxels it must be moved up by along z,y,x)."""
        if not affinity:
            return channel, (0, 0, 0)
        axis = 2 - channel
        moved = triple(int(self.flips[a] and a == axis) for a in range(3))
        return ((1, 0, 2)[channel] if self.transpose else channel), moved


def variants(axes: tuple[bool, bool, bool], transpose: bool) -> tuple[Variant, ...]:
    """Flips along all subsets of `axes`, (and again transposed); the identity first."""
    choices = [(False, True) if flipped else (False,) for flipped in axes]
    return tuple(
        Variant((z, y, x), transposed)
        for transposed in ((False, True) if transpose else (False,))
        for z, y, x in itertools.product(*choices)
    )


def margin(used: tuple[Variant, ...], affinity: bool) -> Triple:
    """Voxels (z,y,x) below a block that `average` needs besides the block."""
    return triple(int(affinity and any(v.flips[a] for v in used)) for a in range(3))


def average(
    run: Callable[[Variant], np.ndarray],
    used: tuple[Variant, ...],
    affinity: bool,
    compute: Box,
    keep: Box,
    known: Box,
) -> np.ndarray:
    """Mean over the variants of the undone output.

    run: variant -> undone output over `compute`, (z,y,x,c)
    compute, keep, known: boxes in one coordinate system: what `run` gives, what is wanted, and
        where predictions exist (sources outside `known` are left out of the mean)
    Returns (z,y,x,c) of their dtype over `keep`; sums are taken in the order of `used`.
    """
    shape = box_shape(keep)
    total: np.ndarray | None = None
    number: np.ndarray | None = None
    for variant in used:
        y = run(variant)
        if total is None or number is None:
            total = np.zeros((*shape, y.shape[-1]), y.dtype)
            number = np.zeros((*shape, y.shape[-1]), y.dtype)
        for channel in range(y.shape[-1]):
            source, moved = variant.source(channel, affinity)
            reach = [
                (max(k.start, n.start + m), min(k.stop, n.stop + m))
                for k, n, m in zip(keep, known, moved, strict=True)
            ]
            if any(b <= a for a, b in reach):
                continue
            start = box_start(keep)
            to = tuple(slice(a - s, b - s) for (a, b), s in zip(reach, start, strict=True))
            origin = box_start(compute)
            fro = tuple(
                slice(a - m - o, b - m - o)
                for (a, b), m, o in zip(reach, moved, origin, strict=True)
            )
            total[..., channel][to] += y[..., source][fro]
            number[..., channel][to] += 1
    assert total is not None
    assert number is not None
    total /= number
    return total
