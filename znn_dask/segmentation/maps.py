"""Opening probability maps and label volumes, and turning maps into boundary probability."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

Kind = Literal["auto", "boundary", "affinity"]
Region = tuple[slice, slice, slice]
"""z, y, x slices with step 1."""


class SegmentationError(ValueError):
    """A map, label volume or parameter that cannot be segmented or scored."""


@dataclass(frozen=True)
class OpenedMap:
    """An array that can be sliced, and the voxel edge lengths (z, y, x) in nm where known."""

    array: Any
    voxel_size: tuple[float, float, float] | None = None
    source: str = "array"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.array.shape)


def _ome_level(group: zarr.Group) -> tuple[str, tuple[float, ...] | None]:
    """Name and scale of the full-resolution array of an OME-Zarr image group."""
    attributes: dict[str, Any] = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    scales = ome.get("multiscales") if isinstance(ome, dict) else None
    if not scales:
        return "0", None
    first = scales[0]["datasets"][0]
    for transformation in first.get("coordinateTransformations", ()):
        if transformation.get("type") == "scale":
            return first["path"], tuple(float(s) for s in transformation["scale"])
    return first["path"], None


def open_map(source: Any) -> OpenedMap:
    """Open a Zarr array, an OME-Zarr image group or a numpy array for reading.

    `source` is a path or URL, a `zarr.Array`, a `zarr.Group` or anything with `shape` and
    slicing. Of a group the full-resolution array is taken (`0` unless its metadata names another).

    Raises SegmentationError where there is nothing to open.
    """
    name = "array"
    if isinstance(source, (str, Path)):
        name = str(source)
        try:
            source = zarr.open(name, mode="r")
        except (FileNotFoundError, KeyError, zarr.errors.BaseZarrError) as error:
            raise SegmentationError(f"{name}: no Zarr array or group there; check the path") from (
                error
            )
    if isinstance(source, zarr.Group):
        path, scale = _ome_level(source)
        if path not in source or not isinstance(source[path], zarr.Array):
            inside = ", ".join(sorted(source.keys())) or "nothing"
            raise SegmentationError(
                f"{name}: the group has no full-resolution array {path!r} but holds {inside}; "
                f"give the path of one image, such as {name}/labels"
            )
        voxel_size = None if scale is None else (scale[-3], scale[-2], scale[-1])
        return OpenedMap(source[path], voxel_size, name)
    return OpenedMap(source, None, name)


def parse_region(text: str) -> Region:
    """`"0:100,:,190:250"` to slices z, y, x."""
    parts = text.split(",")
    try:
        slices = []
        for part in parts:
            start, stop = part.split(":")
            slices.append(slice(int(start) if start else None, int(stop) if stop else None))
        z, y, x = slices
    except ValueError as error:
        raise SegmentationError(
            f"region {text!r} is not three ranges z,y,x; write it as 0:100,:,190:250"
        ) from error
    return z, y, x


def resolve_region(region: Region | str | None, shape: tuple[int, ...]) -> Region:
    """The region with plain starts and stops inside a volume of `shape` (z, y, x)."""
    if len(shape) != 3:
        raise SegmentationError(f"expected a volume with axes z, y, x, got shape {shape}")
    if isinstance(region, str):
        region = parse_region(region)
    if region is None:
        region = (slice(None), slice(None), slice(None))
    bounds = []
    for part, size in zip(region, shape, strict=True):
        start, stop, step = part.indices(size)
        outside = part.stop is not None and part.stop > size
        if step != 1 or stop <= start or outside:
            raise SegmentationError(
                f"region {part.start}:{part.stop} does not lie in an axis of {size} voxels; "
                f"choose 0 <= start < stop <= {size}"
            )
        bounds.append(slice(start, stop))
    return bounds[0], bounds[1], bounds[2]


@dataclass(frozen=True)
class Probability:
    """A map in memory.

    boundary: (z, y, x) float32 in [0, 1], probability that a voxel is boundary.
    affinity: (3, z, y, x) float32 with channels x, y, z, or None; channel c at voxel v is the
        probability that v and the voxel before it along that axis lie in one object.
    """

    boundary: np.ndarray
    affinity: np.ndarray | None = None


def resolve_kind(kind: Kind, shape: tuple[int, ...]) -> Literal["boundary", "affinity"]:
    """What a map of `shape` (c, z, y, x) or (z, y, x) holds.

    Raises SegmentationError where the channel count does not fit the kind.
    """
    if len(shape) not in (3, 4):
        raise SegmentationError(
            f"a probability map has axes (c, z, y, x) or (z, y, x), got shape {shape}"
        )
    channels = shape[0] if len(shape) == 4 else 1
    fits: dict[str, tuple[int, ...]] = {"boundary": (1, 2), "affinity": (3,)}
    if kind == "auto":
        kind = "affinity" if channels == 3 else "boundary"
    if kind not in fits:
        raise SegmentationError(f"kind {kind!r} is unknown; choose auto, boundary or affinity")
    if channels not in fits[kind]:
        wanted = " or ".join(str(n) for n in fits[kind])
        raise SegmentationError(
            f"a map of {channels} channels is no {kind} map, which has {wanted}; "
            "predict with a network of that output, or choose another kind"
        )
    return kind


def boundary_from_channels(values: np.ndarray) -> np.ndarray:
    """Boundary probability (z, y, x) of a boundary map (c, z, y, x).

    One channel is the boundary itself. Of two, 0 is "inside a cell" and 1 "boundary"; their
    evidence is averaged, which for a softmax output is channel 1.
    """
    if values.shape[0] == 1:
        return values[0]
    boundary = values[1] - values[0]
    boundary += 1
    boundary *= 0.5
    return boundary


def boundary_from_affinity(affinity: np.ndarray) -> np.ndarray:
    """Boundary probability (z, y, x): one minus the weakest of a voxel's six affinities."""
    weakest = np.ones(affinity.shape[1:], np.float32)
    for channel, axis in enumerate((2, 1, 0)):
        edges = np.moveaxis(affinity[channel], axis, 0)[1:]
        along = np.moveaxis(weakest, axis, 0)
        np.minimum(along[1:], edges, out=along[1:])
        np.minimum(along[:-1], edges, out=along[:-1])
    return np.subtract(1, weakest, out=weakest)


def _as_probability(values: np.ndarray) -> np.ndarray:
    """float32 in [0, 1]; integer maps are scaled by the largest value of their type."""
    scale = np.float32(1)
    if np.issubdtype(values.dtype, np.integer):
        scale = np.float32(1 / np.iinfo(values.dtype).max)
    result = np.multiply(values, scale, dtype=np.float32)
    if not np.isfinite(result).all():
        raise SegmentationError("the map holds NaN or infinite values; predict it again")
    return np.clip(result, 0, 1, out=result)


def read_probability(opened: OpenedMap, kind: Kind, region: Region | None = None) -> Probability:
    """Read a map (c, z, y, x) or (z, y, x), in slabs along z so that only the result is held."""
    resolved = resolve_kind(kind, opened.shape)
    z, y, x = resolve_region(region, opened.shape[-3:])
    spatial = (z.stop - z.start, y.stop - y.start, x.stop - x.start)
    affinity = np.empty((3, *spatial), np.float32) if resolved == "affinity" else None
    boundary = np.empty(spatial, np.float32)
    step = slab_depth(opened.array, spatial)
    for start in range(0, spatial[0], step):
        stop = min(start + step, spatial[0])
        box = (slice(z.start + start, z.start + stop), y, x)
        if len(opened.shape) == 4:
            values = _as_probability(np.asarray(opened.array[(slice(None), *box)]))
        else:
            values = _as_probability(np.asarray(opened.array[box]))[None]
        if affinity is not None:
            affinity[:, start:stop] = values
        else:
            boundary[start:stop] = boundary_from_channels(values)
    if affinity is not None:
        boundary = boundary_from_affinity(affinity)
    return Probability(boundary, affinity)


def slab_depth(array: Any, spatial: tuple[int, ...], voxels: int = 1 << 24) -> int:
    """Slices per slab: whole chunks along z, about `voxels` voxels."""
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    depth = int(chunks[-3]) if chunks else 1
    slice_voxels = max(1, int(np.prod(spatial[1:])))
    return max(1, voxels // slice_voxels // depth) * depth
