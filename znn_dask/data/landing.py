"""Where an import is put together, how it appears, and how an interrupted one is continued.

In a folder it is put together beside the volume's items, as `.name.partial`, and takes its name by
a rename. Object stores cannot rename: there it is put together in its place, without the metadata
by which it would be an item of the volume. What was begun and how far it came is in the attributes
of its group.
"""

import os
import shutil
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
import zarr.errors

from znn_dask.data.metadata import UNFINISHED, VolumeError, parse_multiscales
from znn_dask.data.pyramid import RECORD as PYRAMID
from znn_dask.data.remote import is_local, zarr_store


@dataclass(frozen=True)
class Landing:
    """An item `name` on its way into the volume at `root`."""

    root: str
    name: str

    @property
    def final(self) -> str:
        """Where its group is once it is complete."""
        return f"{self.root}/{self.name}"

    @property
    def place(self) -> str:
        """Where its group is until it is complete."""
        hidden = f".{self.name}.partial" if is_local(self.root) else self.name
        return f"{self.root}/{hidden}"

    def check_free(self, overwrite: bool) -> None:
        """Raise VolumeError where a complete item has the name, unless it may be replaced."""
        taken = Path(self.final).exists() if is_local(self.root) else _complete(self.final)
        if taken and not overwrite:
            advice = "use another name or overwrite"
            if _group(f"{self.final}/{PYRAMID}") is not None:
                advice = f"go on with its lower resolutions by `znn-dask pyramid {self.final}`"
            raise VolumeError(f"{self.root} already has {self.name!r}: {advice}")

    def begun(self, record: Mapping[str, Any]) -> zarr.Group | None:
        """What an interrupted import with the same record left; all else in the place is removed.

        Raises VolumeError while another process is at it.
        """
        group = _group(self.place)
        kept = None if group is None else group.attrs.get(UNFINISHED)
        if group is not None and isinstance(kept, Mapping):
            host, _, pid = str(kept["process"]).rpartition(":")
            if host == socket.gethostname() and _alive(int(pid)) and int(pid) != os.getpid():
                raise VolumeError(
                    f"process {pid} is importing {self.name!r} into {self.root}: wait for it"
                )
            if kept["of"] == dict(record) and "0" in group:
                group.update_attributes({UNFINISHED: {**kept, "process": _process()}})
                return group
        self.discard()
        return None

    def record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes of the new group, which say what is imported."""
        return {UNFINISHED: {"of": dict(record), "done": 0, "process": _process()}}

    def done(self, group: zarr.Group) -> int:
        """How many boxes are on disk."""
        kept: Any = group.attrs[UNFINISHED]
        return int(kept["done"])

    def progress(self, group: zarr.Group, done: int) -> None:
        """Say that `done` boxes are on disk."""
        kept: Any = group.attrs[UNFINISHED]
        group.update_attributes({UNFINISHED: {**kept, "done": done}})

    def discard(self) -> None:
        """Remove what is in the place, and the folder of a volume that never came to be."""
        if is_local(self.root):
            root = Path(self.root)
            shutil.rmtree(self.place, ignore_errors=True)
            for left in root.glob(f".{self.name}.replaced-*"):
                shutil.rmtree(left, ignore_errors=True)
            if root.is_dir() and not any(root.iterdir()):
                root.rmdir()
            return
        group = _group(self.root, "r+")
        if group is not None and self.name in group:
            del group[self.name]
        elif _group(self.place) is not None:
            zarr.open_group(zarr_store(self.place), mode="w", zarr_format=3)  # empties it

    def appear(self, attributes: Mapping[str, Any]) -> None:
        """The complete item takes its name in the volume, which is made if absent."""
        zarr.open_group(zarr_store(self.root), mode="a", zarr_format=3)
        group = zarr.open_group(zarr_store(self.place), mode="r+", zarr_format=3)
        group.attrs.put(dict(attributes))
        if not is_local(self.root):
            return
        final = Path(self.root, self.name)
        replaced = final.with_name(f".{self.name}.replaced-{uuid.uuid4().hex}")
        if final.exists():
            final.rename(replaced)
        Path(self.place).rename(final)
        shutil.rmtree(replaced, ignore_errors=True)


def _process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _group(place: str, mode: Any = "r+") -> zarr.Group | None:
    try:
        return zarr.open_group(zarr_store(place), mode=mode, zarr_format=3)
    except (FileNotFoundError, NotADirectoryError, zarr.errors.BaseZarrError):
        return None


def _complete(place: str) -> bool:
    """Whether something other than an unfinished import is there."""
    try:
        node = zarr.open(zarr_store(place), mode="r")
    except (FileNotFoundError, zarr.errors.BaseZarrError):
        return False
    except Exception as error:  # every object store has its own kinds
        raise VolumeError(f"{place} cannot be opened: {' '.join(str(error).split())}") from error
    return isinstance(node, zarr.Array) or parse_multiscales(node.attrs) is not None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
