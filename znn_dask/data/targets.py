"""Training targets from label volumes: boundary and affinity maps (ZNN semantics).

Functions take patches that already carry the context which the target needs, and return channels
last. They run after augmentation, so a flipped or transposed patch has the affinities of the
flipped or transposed labels.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["boundary", "affinity"]
Array = NDArray[Any]
Float = NDArray[np.float32]


@dataclass(frozen=True)
class Target:
    """What an output of the network is to learn.

    "boundary": two channels, [inside a cell, on a membrane]. With `thickness` 0 the labels have a
    membrane class, id 0 (ZNN). With thickness t > 0 the labels are dense and a voxel is membrane
    when another id (or 0) lies within t steps over faces: interfaces become 2 t voxels thick.
    "affinity": three channels, whether a voxel belongs to the same cell as its lower neighbour
    along x, y, z (in this order).
    """

    kind: Kind = "boundary"
    thickness: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown target {self.kind!r}: choose boundary or affinity")
        if self.thickness < 0 or (self.thickness and self.kind == "affinity"):
            raise ValueError(
                f"thickness {self.thickness} does not fit target {self.kind}: "
                "give a number >= 0 for boundary, leave it out for affinity"
            )

    @property
    def channels(self) -> int:
        """Channels of the target: 2 or 3."""
        return 2 if self.kind == "boundary" else 3

    @property
    def context(self) -> tuple[int, int]:
        """Label voxels needed (below, above) the output, on every axis."""
        return (1, 0) if self.kind == "affinity" else (self.thickness, self.thickness)

    def __call__(self, labels: Array) -> Float:
        """Target (z,y,x,channels) float32 of labels with their context on every axis."""
        if self.kind == "affinity":
            return affinity_target(labels)
        if self.thickness:
            return dense_boundary_target(labels, self.thickness)
        return boundary_target(labels)

    def mask(self, mask: Array) -> Float:
        """Which target values count, (z,y,x,channels) float32 of 0 and 1, from a mask patch."""
        if self.kind == "affinity":
            return affinity_mask(mask)
        below, above = self.context
        inner = tuple(slice(below, n - above) for n in mask.shape)
        return np.repeat((mask[inner] > 0)[..., None], 2, axis=-1).astype(np.float32)


def _two_channels(inside: NDArray[np.bool_]) -> Float:
    out = np.empty((*inside.shape, 2), np.float32)
    out[..., 0] = inside
    np.subtract(1.0, out[..., 0], out=out[..., 1])
    return out


def boundary_target(labels: Array) -> Float:
    """[label > 0, label == 0], (z,y,x,2) float32 from labels (z,y,x)."""
    return _two_channels(labels > 0)


def dense_boundary_target(labels: Array, thickness: int) -> Float:
    """[inside, membrane] for labels without a membrane class.

    labels: (z,y,x) with `thickness` voxels of context on both sides of every axis; returns
    (z,y,x,2) float32 without the context.
    """
    membrane = labels == 0
    for axis in range(3):
        low, high = _neighbours(axis)
        changes = labels[low] != labels[high]
        membrane[low] |= changes
        membrane[high] |= changes
    for _ in range(thickness - 1):
        grown = membrane.copy()
        for axis in range(3):
            low, high = _neighbours(axis)
            grown[low] |= membrane[high]
            grown[high] |= membrane[low]
        membrane = grown
    inner = (slice(thickness, -thickness),) * 3
    return _two_channels(~membrane[inner])


def _neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index of all voxels but the last, and all but the first, along an axis."""
    low, high = [slice(None)] * 3, [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return tuple(low), tuple(high)


def _with_lower_neighbour(patch: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    """The patch without its first layers, and its lower neighbours along x, y, z."""
    here = patch[1:, 1:, 1:]
    return here, (patch[1:, 1:, :-1], patch[1:, :-1, 1:], patch[:-1, 1:, 1:])


def affinity_target(labels: Array) -> Float:
    """Affinities (z,y,x,3) float32, channels x, y, z, from labels (z+1,y+1,x+1)."""
    here, lower = _with_lower_neighbour(np.ascontiguousarray(labels))
    inside = here > 0
    out = np.empty((*here.shape, 3), np.float32)
    for c, there in enumerate(lower):
        out[..., c] = (here == there) & inside
    return out


def affinity_mask(mask: Array) -> Float:
    """An affinity counts when either voxel does: (z,y,x,3) float32 from mask (z+1,y+1,x+1)."""
    here, lower = _with_lower_neighbour(mask > 0)
    out = np.empty((*here.shape, 3), np.float32)
    for c, there in enumerate(lower):
        out[..., c] = here | there
    return out
