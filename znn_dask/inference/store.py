"""What a prediction keeps on disk: the image, its plan, and one done marker per finished block.

    out.zarr/
        zarr.json              OME-Zarr multiscale image
        0/                     (c,z,y,x)
        1/, 2/, ...            lower resolutions, once all blocks are finished
        .znn/zarr.json         the plan and the fingerprints of checkpoint and image, as attributes
        .znn/preprocessing/    statistics of the image
        .znn/blocks/000007/    done marker: written after the data of block 7 (one atomic object)

Markers are explicit because Zarr stores no chunk that is all zero: what is missing in the array
says nothing about what was computed.  The plan is the first thing written and the last to go,
so a run that dies at any moment leaves either nothing or something that can be continued.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
import zarr.errors

from znn_dask.data.remote import zarr_store
from znn_dask.inference.blocks import PredictionError, Triple

FORMAT = 1
RECORD = ".znn"
BLOCKS = f"{RECORD}/blocks"
PREPROCESSING = f"{RECORD}/preprocessing"

# What a user calls the parts of a plan.
TITLES = {"unit": "chunks", "origin": "region origin"}


def read_record(out: str) -> dict[str, Any] | None:
    """The record that `begin` stored at `out`; None where nothing is.

    Raises PredictionError where something else is, which is never overwritten.
    """
    record = _group(out, RECORD)
    if record is not None and "plan" in record.attrs:
        return dict(record.attrs)
    if (
        "://" not in out
        and Path(out).exists()
        and (Path(out).is_file() or any(Path(out).iterdir()))
    ):
        raise PredictionError(
            f"{out} exists and is not a prediction of znn_dask: choose another output path"
        )
    if _group(out, "", None) is not None:
        raise PredictionError(
            f"{out} is a Zarr group without a prediction in it: choose another output path"
        )
    return None


def check_same(out: str, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise PredictionError, naming both values, unless a run with record `wanted` may continue."""
    for title, old, new in _compared(stored, wanted):
        if old != new:
            raise PredictionError(
                f"{out} was begun with {title} {_show(old)} but this run has {_show(new)}: "
                "give another output path, or overwrite=True to start again"
            )


def _compared(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    # Not the arithmetic: a rerun takes the stored one.
    plain = [key for key in wanted if key not in ("plan", "arithmetic")]
    pairs = [(key, stored.get(key), wanted[key]) for key in plain]
    old, new = stored["plan"], wanted["plan"]
    return pairs + [(TITLES.get(key, key.replace("_", " ")), old.get(key), new[key]) for key in new]


def _show(value: Any) -> str:
    return str(tuple(value)) if isinstance(value, list) else str(value)


def begin(
    out: str,
    record: Mapping[str, Any],
    attributes: Mapping[str, Any],
    shape: tuple[int, ...],
    chunks: Triple,
    dtype: Any,
) -> zarr.Array:
    """Create whatever of the output is not there yet and return its array (c,z,y,x)."""
    if _group(out, RECORD) is None:
        zarr.create_group(zarr_store(out), path=RECORD, attributes=dict(record), zarr_format=3)
    root = zarr.open_group(zarr_store(out), mode="a", zarr_format=3)
    if "ome" not in root.attrs:  # else it may name lower resolutions already
        root.update_attributes(dict(attributes))
    if BLOCKS not in root:
        zarr.create_group(zarr_store(out), path=BLOCKS, zarr_format=3)
    if "0" not in root:
        root.create_array(
            "0",
            shape=shape,
            chunks=(1, *(min(c, n) for c, n in zip(chunks, shape[1:], strict=True))),
            dtype=dtype,
            fill_value=0,
            dimension_names=("c", "z", "y", "x"),
        )
    array = root["0"]
    assert isinstance(array, zarr.Array)
    return array


def load_preprocessing(out: str) -> dict[str, Any] | None:
    """What `save_preprocessing` stored, by input node; None before."""
    group = _group(out, PREPROCESSING)
    return None if group is None else dict(group.attrs)


def save_preprocessing(out: str, preprocessing: Mapping[str, Any]) -> None:
    """Keep the statistics of the images, so that a rerun need not read them whole again."""
    zarr.create_group(
        zarr_store(out),
        path=PREPROCESSING,
        attributes=dict(preprocessing),
        overwrite=True,
        zarr_format=3,
    )


def remove(out: str) -> None:
    """Remove a prediction; its record goes last."""
    root = zarr.open_group(zarr_store(out), mode="a")
    for path in (BLOCKS, "0", RECORD):
        if path in root:
            del root[path]
    zarr.open_group(zarr_store(out), mode="w", zarr_format=3)


class Markers:
    """Done markers of one prediction; pickles as its location."""

    def __init__(self, out: str, run: str) -> None:
        self.out = out
        self.run = run

    def done(self) -> dict[int, dict[str, Any]]:
        """Content of each marker of this run, by block index."""
        blocks = _group(self.out, BLOCKS)
        if blocks is None:
            return {}
        found = {int(name): dict(group.attrs) for name, group in blocks.groups()}
        return {k: content for k, content in found.items() if content.get("run") == self.run}

    def mark(self, index: int, content: Mapping[str, Any]) -> None:
        """Record that block `index` is on disk; a second time replaces the first."""
        zarr.create_group(
            zarr_store(self.out),
            path=f"{BLOCKS}/{index:06d}",
            attributes={"run": self.run, **content},
            overwrite=True,
            zarr_format=3,
        )


def run_name(record: Mapping[str, Any]) -> str:
    """Short name of the run that `record` describes: equal for equal records."""
    text = json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def parameters_fingerprint(settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Fingerprint of a network with parameters, sixteen hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def image_fingerprint(image: Any) -> str:
    """Fingerprint of an image: shape, dtype, and the voxels of a few small boxes in it.

    Reads at most 27 boxes of 16 voxels per axis, so it does not notice every change of content.
    """
    digest = hashlib.sha256(f"{tuple(image.shape)} {np.dtype(image.dtype).str}".encode())
    lead = (slice(None),) * (image.ndim - 3)
    starts = [sorted({0, max(0, n // 2 - 8), max(0, n - 16)}) for n in image.shape[-3:]]
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                index = (*lead, *(slice(a, a + 16) for a in (z, y, x)))
                digest.update(np.ascontiguousarray(image[index]).tobytes())
    return digest.hexdigest()[:16]


def _group(out: str, path: str, version: Literal[3] | None = 3) -> zarr.Group | None:
    try:
        return zarr.open_group(zarr_store(out), path=path, mode="r", zarr_format=version)
    except (FileNotFoundError, NotADirectoryError, zarr.errors.BaseZarrError):
        return None
