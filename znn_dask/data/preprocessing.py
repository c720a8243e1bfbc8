"""Bring images to the scale that a network is trained on: ZNN's preprocessing rules.

A rule is fitted to one image and then maps each voxel to (value - offset) * scale, where offset and
scale belong to the z slice and channel. Statistics are streamed chunk by chunk in a fixed order, so
they have the same bits wherever they are computed.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self, get_args

import numpy as np
import zarr
from numpy.typing import NDArray

Rule = Literal["standard2D", "standard3D", "symmetric_rescale", "none"]
Table = tuple[tuple[float, ...], ...]  # channel, then z slice (or a single entry for all of them)


@dataclass(frozen=True)
class Preprocessing:
    """One of ZNN's rules, with the statistics of one image once `fit` to it.

    standard2D: zero mean and unit (population) deviation in every z slice; standard3D: in the whole
    image; symmetric_rescale: minimum to -1 and maximum to 1; none: values as they are. Channels are
    treated one by one. Constant slices become zero.
    """

    rule: Rule = "standard2D"
    offset: Table | None = None
    scale: Table | None = None

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            known = ", ".join(get_args(Rule))
            raise ValueError(f"unknown preprocessing {self.rule!r}: choose one of {known}")

    @property
    def fitted(self) -> bool:
        """Whether `apply` may be called."""
        return self.offset is not None or self.rule == "none"

    def fit(self, image: zarr.Array | NDArray[Any]) -> "Preprocessing":
        """The same rule with the statistics of `image` (z,y,x) or (c,z,y,x), read once."""
        if self.rule == "none":
            return self
        if self.rule == "symmetric_rescale":
            low, high = _extremes(image)
            return self._with((low + high) / 2, (high - low) / 2)
        mean, deviation = _moments(image, whole=self.rule == "standard3D")
        return self._with(mean, deviation)

    def _with(self, offset: NDArray[Any], spread: NDArray[Any]) -> "Preprocessing":
        scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
        return Preprocessing(self.rule, _table(offset), _table(scale))

    def apply(self, block: NDArray[Any], z: slice | NDArray[Any]) -> NDArray[np.float32]:
        """Preprocessed copy, float32, same shape as `block` (z,y,x) or (c,z,y,x).

        `z` says which slices of the fitted image the block holds: a slice with plain ints, or one
        index per slice (mirrored or flipped blocks). Raises ValueError before `fit`.
        """
        if self.rule == "none":
            return block.astype(np.float32)
        if self.offset is None or self.scale is None:
            raise ValueError(f"preprocessing {self.rule} has no statistics yet: call fit(image)")
        index = np.arange(z.start or 0, z.stop) if isinstance(z, slice) else z
        offset, scale = self._tables
        out = np.empty(block.shape, np.float32)
        # Flipped and transposed blocks are straightened in their own type, which is the smallest.
        straight = np.ascontiguousarray(block)
        np.subtract(straight, _per_slice(offset, index, block.ndim), out=out, casting="unsafe")
        out *= _per_slice(scale, index, block.ndim)
        return out

    @cached_property
    def _tables(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return np.asarray(self.offset, np.float32), np.asarray(self.scale, np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON keeps exactly."""
        tables = {"offset": self.offset, "scale": self.scale}
        lists = {k: None if t is None else [list(c) for c in t] for k, t in tables.items()}
        return {"rule": self.rule, **lists}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`; a missing table means not fitted."""

        def table(rows: Any) -> Table | None:
            return None if rows is None else tuple(tuple(float(v) for v in row) for row in rows)

        return cls(data["rule"], table(data.get("offset")), table(data.get("scale")))


def _table(values: NDArray[Any]) -> Table:
    return tuple(tuple(float(v) for v in row) for row in values)


def _per_slice(values: NDArray[np.float32], index: NDArray[Any], ndim: int) -> NDArray[np.float32]:
    picked = values[:, index] if values.shape[1] > 1 else values
    picked = picked[:, :, None, None]
    return picked if ndim == 4 else picked[0]


def _blocks(image: zarr.Array | NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Blocks (c,z,y,x) of an image in a fixed order, whole chunks each, with their z range."""
    shape = tuple(image.shape)
    # One fixed block shape for arrays in memory; a stored array is read by its own chunks.
    chunks = image.shards or image.chunks if isinstance(image, zarr.Array) else (64,) * image.ndim
    starts = [range(0, n, c) for n, c in zip(shape[-3:], chunks[-3:], strict=True)]
    for corner in itertools.product(*starts):
        z, y, x = (
            slice(a, min(a + c, n)) for a, c, n in zip(corner, chunks[-3:], shape[-3:], strict=True)
        )
        block = np.asarray(image[..., z, y, x], np.float64)
        yield z, block.reshape(-1, *block.shape[-3:])


def _sizes(image: zarr.Array | NDArray[Any]) -> tuple[int, int]:
    return (image.shape[0] if image.ndim == 4 else 1), image.shape[-3]


def _moments(
    image: zarr.Array | NDArray[Any], whole: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and population deviation, (c, z) or (c, 1); running update of Chan et al. 1979."""
    count = np.zeros(_sizes(image))
    mean = np.zeros_like(count)
    spread = np.zeros_like(count)  # sum of squared deviations
    for z, block in _blocks(image):
        n = float(block.shape[2] * block.shape[3])
        m = block.mean(axis=(2, 3))
        s = np.square(block - m[:, :, None, None]).sum(axis=(2, 3))
        _merge(count[:, z], mean[:, z], spread[:, z], n, m, s)
    if whole:
        total = (np.zeros_like(count[:, :1]), mean[:, :1] * 0, spread[:, :1] * 0)
        for k in range(count.shape[1]):
            _merge(*total, count[0, k], mean[:, k : k + 1], spread[:, k : k + 1])
        count, mean, spread = total
    return mean, np.sqrt(spread / count)


def _merge(
    count: NDArray[Any], mean: NDArray[Any], spread: NDArray[Any], n: float, m: Any, s: Any
) -> None:
    """Add a batch of n values with mean m and squared deviations s to running sums, in place."""
    delta = m - mean
    total = count + n
    spread += s + np.square(delta) * count * n / total
    mean += delta * n / total
    count += n


def _extremes(
    image: zarr.Array | NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    channels = _sizes(image)[0]
    low = np.full((channels, 1), np.inf)
    high = np.full((channels, 1), -np.inf)
    for _, block in _blocks(image):
        low[:, 0] = np.minimum(low[:, 0], block.min(axis=(1, 2, 3)))
        high[:, 0] = np.maximum(high[:, 0], block.max(axis=(1, 2, 3)))
    return low, high
