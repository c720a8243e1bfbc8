"""What a segmentation keeps on disk while it is made, and how it becomes complete.

    objects.zarr/
        zarr.json                written last: only then is there an image
        0/                       the objects (z,y,x)
        .znn/segmentation.json   what is made and from what; written first
        .znn/fragments/          fragments of each block (z,y,x), numbered within it
        .znn/named/000007.npz    names and links of the fragments of block 7
        .znn/contacts/000007.npz, .znn/merged/000007.npz, .znn/written/000007.npz

A part is written after the data that it speaks of, and appears whole or not at all, so what an
interrupted run left can be continued. All but the image goes when it is complete.
"""

import io
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import zarr

from znn_dask.segmentation.maps import SegmentationError

RECORD = ".znn"
FRAGMENTS = f"{RECORD}/fragments"


class Folder:
    """Small objects below a folder or URL; pickles as its location."""

    def __init__(self, place: str) -> None:
        self.place = place

    def _at(self, path: str) -> tuple[Any, str]:
        fs, root = fsspec.core.url_to_fs(self.place)
        return fs, f"{root.rstrip('/')}/{path}"

    def put(self, path: str, content: bytes) -> None:
        """Write an object, which appears whole."""
        fs, target = self._at(path)
        if "://" in self.place:
            fs.pipe_file(target, content)
            return
        file = Path(target)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.{uuid.uuid4().hex}.partial")
        unfinished.write_bytes(content)
        os.replace(unfinished, file)

    def get(self, path: str) -> bytes | None:
        """Content of an object; None where there is none."""
        fs, target = self._at(path)
        try:
            return bytes(fs.cat_file(target))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def names(self, path: str = "") -> list[str]:
        """Names of what lies at `path`; empty where that is nothing."""
        fs, target = self._at(path)
        fs.invalidate_cache()
        try:
            entries = fs.ls(target.rstrip("/"), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [str(entry).rstrip("/").rpartition("/")[2] for entry in entries]

    def remove(self, path: str) -> None:
        fs, target = self._at(path)
        if "://" not in self.place and Path(target).is_dir():
            shutil.rmtree(target, ignore_errors=True)
            return
        try:
            fs.rm(target, recursive=True)
        except FileNotFoundError:
            return  # never written


class Parts:
    """What is known of each block, by stage: named arrays; pickles as its location."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def save(self, stage: str, index: int, **arrays: np.ndarray) -> None:
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays)
        self.folder.put(_part(stage, index), content.getvalue())

    def load(self, stage: str, index: int) -> Mapping[str, np.ndarray]:
        """Arrays of a part; raises SegmentationError where there is none."""
        content = self.folder.get(_part(stage, index))
        if content is None:
            raise SegmentationError(
                f"{self.folder.place}/{_part(stage, index)} has gone: two runs may be writing "
                "there; choose another output path, or overwrite"
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)

    def done(self, stage: str) -> set[int]:
        """Blocks that have passed a stage."""
        return {
            int(name.removesuffix(".npz"))
            for name in self.folder.names(f"{RECORD}/{stage}")
            if name.endswith(".npz") and not name.startswith(".")
        }


def _part(stage: str, index: int) -> str:
    return f"{RECORD}/{stage}/{index:06d}.npz"


def read_record(folder: Folder) -> dict[str, Any] | None:
    """What the segmentation that was begun here is made from; None where none was."""
    content = folder.get(f"{RECORD}/segmentation.json")
    return None if content is None else json.loads(content)


def write_record(folder: Folder, record: Mapping[str, Any]) -> None:
    folder.put(f"{RECORD}/segmentation.json", json.dumps(record, indent=2).encode())


def finished_record(folder: Folder) -> dict[str, Any] | None:
    """What the complete segmentation here says that it was made from; None where there is none."""
    content = folder.get("zarr.json")
    attributes = {} if content is None else json.loads(content).get("attributes", {})
    found: dict[str, Any] | None = attributes.get("segmentation")
    return found


def merged_objects(folder: Folder) -> int | None:
    """How many objects the fragments have become; None before they are merged."""
    content = folder.get(f"{RECORD}/merged.json")
    return None if content is None else int(json.loads(content)["objects"])


def write_merged(folder: Folder, objects: int) -> None:
    folder.put(f"{RECORD}/merged.json", json.dumps({"objects": objects}).encode())


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(name, old value, new value) where two records differ."""
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            yield from differences(before, value)
        elif before != value:
            yield key.replace("_", " "), before, value


def clear(folder: Folder) -> None:
    """Remove what a segmentation has written; first what says that it is complete."""
    folder.remove("zarr.json")
    levels = [name for name in folder.names() if name.isdecimal() or name == ".pyramid"]
    for name in (*levels, RECORD):
        folder.remove(name)


def open_array(
    folder: Folder, path: str, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> zarr.Array:
    """The uint32 array (z, y, x) at `path`, made if it is not there yet."""
    # By a location of its own: a path in a store would make groups of all folders above it.
    place = f"{folder.place}/{path}"
    try:
        return zarr.open_array(place, mode="r+")
    except FileNotFoundError:
        return zarr.create_array(
            place,
            shape=shape,
            chunks=chunks,
            dtype=np.uint32,
            fill_value=0,
            dimension_names=("z", "y", "x"),
            zarr_format=3,
        )
