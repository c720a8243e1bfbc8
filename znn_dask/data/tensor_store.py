"""N5 and Neuroglancer precomputed volumes through tensorstore, in folders or behind URLs."""

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from znn_dask.data.metadata import UNITS, VolumeError
from znn_dask.data.reader import Reader

Format = Literal["n5", "precomputed"]
DRIVERS = {"n5": "n5", "precomputed": "neuroglancer_precomputed"}
CACHED_BYTES = 32 * 2**20  # decoded chunks at borders of the boxes that are read


def tensorstore(what: str) -> Any:
    """The module; raises VolumeError, saying that `what` needs it, where it is not installed."""
    try:
        import tensorstore
    except ImportError as error:
        raise VolumeError(
            f"{what} needs tensorstore: pip install 'znn-dask[neuroglancer]'"
        ) from error
    return tensorstore


def key_value_store(location: str) -> Any:
    """tensorstore's specification of the folder at a path or URL (file, http, gs, s3).

    S3 at another address than Amazon's: by AWS_ENDPOINT_URL, as for all else.
    """
    folder = location.rstrip("/") + "/"
    scheme, separator, rest = folder.partition("://")
    if not separator:
        return {"driver": "file", "path": str(Path(folder).absolute()) + "/"}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if scheme == "s3" and endpoint:
        bucket, _, path = rest.partition("/")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
        return {
            "driver": "s3",
            "bucket": bucket,
            "path": path,
            "endpoint": endpoint,
            "aws_region": region,
        }
    return folder


def reason(error: Exception) -> str:
    """What tensorstore says is wrong, in one line and without its specifications."""
    return " ".join(str(error).partition(" [")[0].split())


@contextmanager
def open_tensor_store(location: str, kind: Format) -> Iterator[Reader]:
    """The full resolution of the volume at a path or URL; raises VolumeError."""
    ts = tensorstore(location)
    place = location
    if kind == "n5":
        place, attributes = _n5_dataset(ts, location)
    specification = {
        "driver": DRIVERS[kind],
        "kvstore": key_value_store(place),
        "context": {"cache_pool": {"total_bytes_limit": CACHED_BYTES}},
    }
    try:
        store = ts.open(specification, open=True, read=True).result()
    except ValueError as error:
        raise VolumeError(f"{location} cannot be opened: {reason(error)}") from error
    store = store[ts.d[:].translate_to[0]]  # voxel 0 is the first that is stored
    if kind == "n5":
        axes, spacing = _n5_axes(attributes, store.ndim)
    else:
        axes = "xyzc"
        spacing = tuple(_nanometres(unit) for unit in store.dimension_units[:3])

    def read(box: tuple[slice, ...]) -> np.ndarray:
        try:
            return np.asarray(store[box].read().result())
        except ValueError as error:
            raise VolumeError(f"{location} cannot be read: {reason(error)}") from error

    chunks = store.chunk_layout.read_chunk.shape
    yield Reader(
        tuple(store.shape), store.dtype.numpy_dtype, axes, spacing, tuple(map(int, chunks)), read
    )


def _nanometres(unit: Any) -> float:
    return 1.0 if unit is None else unit.multiplier * UNITS.get(unit.base_unit.lower(), 1.0)


def _n5_dataset(ts: Any, location: str) -> tuple[str, dict[str, Any]]:
    """The dataset that is meant, the first level of several; and its attributes.

    Those of the groups above it (Paintera, n5-viewer) are there where it has none of its own.
    """
    found = _attributes(ts, location)
    if "dimensions" in found:
        above = _attributes(ts, location.rstrip("/").rpartition("/")[0])
        return location, above | found
    first = f"{location.rstrip('/')}/s0"
    level = _attributes(ts, first)
    if "dimensions" not in level:
        raise VolumeError(
            f"{location} is no N5 dataset: name one in it, such as {location.rstrip('/')}/raw"
        )
    return first, found | level


def _attributes(ts: Any, location: str) -> dict[str, Any]:
    try:
        store = ts.KvStore.open(key_value_store(location)).result()
        found = store.read("attributes.json").result()
    except ValueError as error:
        raise VolumeError(f"{location} cannot be read: {reason(error)}") from error
    return dict(json.loads(found.value)) if found.state == "value" else {}


def _n5_axes(attributes: Mapping[str, Any], ndim: int) -> tuple[str, tuple[float, ...] | None]:
    """Axes and nm along them; N5 lists the fastest axis first, so x,y,z where it does not say."""
    axes = "".join(str(a).lower() for a in attributes.get("axes", "xyzct"[:ndim]))
    transform = attributes.get("transform")
    if isinstance(transform, Mapping) and {"axes", "scale"} <= transform.keys():  # OpenOrganelle
        units = transform.get("units", ["nm"] * len(transform["axes"]))
        along = {
            a: s * UNITS.get(u.lower(), 1.0)
            for a, s, u in zip(transform["axes"], transform["scale"], units, strict=True)
        }
        return axes, tuple(along[a] for a in axes if a in along)
    size: Any = attributes.get("pixelResolution", attributes.get("resolution"))
    unit = attributes.get("units", "nm")
    if isinstance(size, Mapping):  # BigDataViewer and n5-viewer
        size, unit = size["dimensions"], size.get("unit", "nm")
    if size is None:
        return axes, None
    units = [unit] * len(size) if isinstance(unit, str) else unit
    values = [s * UNITS.get(u.lower(), 1.0) for s, u in zip(size, units, strict=True)]
    spatial = [a in "zyx" for a in axes]
    return axes, tuple(itertools.compress(values, spatial) if len(values) == ndim else values)
