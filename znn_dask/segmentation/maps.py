"""Opening probability maps and label volumes, and turning maps into boundary probability."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.storage import LocalStore

from znn_dask.data.metadata import VoxelSize, parse_multiscales
from znn_dask.data.volume import describe_array, open_array

Kind = Literal["auto", "boundary", "affinity"]
Region = tuple[slice, slice, slice]
"""z, y, x slices with step 1."""


class SegmentationError(ValueError):
    """A map, label volume or parameter that cannot be segmented or scored."""


@dataclass(frozen=True)
class OpenedMap:
    """An array that can be sliced, with what its volume records about it.

    voxel_size: (z, y, x) nm. offset: voxel (z, y, x) of the specimen at which the array begins,
    None where no position is recorded. scale: probability per stored unit, None where not recorded.
    """

    array: Any
    source: str = "array"
    voxel_size: VoxelSize = (1.0, 1.0, 1.0)
    offset: tuple[int, int, int] | None = None
    scale: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.array.shape)


def _image_attributes(array: zarr.Array) -> Mapping[str, Any]:
    """Attributes of the image group that holds the array; empty where there is none."""
    above, _, name = array.path.strip("/").rpartition("/")
    try:
        if name:
            return dict(zarr.open_group(array.store, path=above, mode="r").attrs)
        if isinstance(array.store, LocalStore):
            return dict(zarr.open_group(array.store.root.parent, mode="r").attrs)
    except (FileNotFoundError, zarr.errors.BaseZarrError):
        pass
    return {}


def _offset(attributes: Mapping[str, Any], voxel_size: VoxelSize) -> tuple[int, int, int] | None:
    """Recorded position in voxels: the translation, in the unit of the scale before it."""
    ome = attributes.get("ome", attributes)
    steps = ome["multiscales"][0]["datasets"][0].get("coordinateTransformations", ())
    found = {step["type"]: step.get(step["type"]) for step in steps}
    if "translation" not in found:
        return None
    scale = found.get("scale") or voxel_size
    z, y, x = (round(t / s) for t, s in zip(found["translation"][-3:], scale[-3:], strict=True))
    return z, y, x


def open_map(source: Any) -> OpenedMap:
    """Open a Zarr array, an OME-Zarr image or a numpy array for reading.

    `source` is a path or URL as for `open_array`, a `zarr.Array`, or anything with `shape` and
    slicing. Raises VolumeError or SegmentationError where there is nothing to open.
    """
    name = "array"
    if isinstance(source, (str, Path)):
        name = str(source)
        source = open_array(name)
    if not hasattr(source, "shape"):
        raise SegmentationError(
            f"{source!r} is no array: give a path, a Zarr array or a numpy array"
        )
    if not isinstance(source, zarr.Array):
        return OpenedMap(source, name)
    described = describe_array(source)
    attributes = _image_attributes(source)
    image = parse_multiscales(attributes)
    return OpenedMap(
        source,
        name,
        described.voxel_size,
        None if image is None else _offset(attributes, described.voxel_size),
        attributes.get("znn_dask", {}).get("scale"),
    )


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


def _as_probability(values: np.ndarray, scale: float | None) -> np.ndarray:
    """float32 in [0, 1]; integers without a recorded scale by the largest value of their type."""
    if scale is None:
        whole = np.issubdtype(values.dtype, np.integer)
        scale = 1 / np.iinfo(values.dtype).max if whole else 1.0
    result = np.multiply(values, np.float32(scale), dtype=np.float32)
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
            values = _as_probability(np.asarray(opened.array[(slice(None), *box)]), opened.scale)
        else:
            values = _as_probability(np.asarray(opened.array[box]), opened.scale)[None]
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
