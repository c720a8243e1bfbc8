"""A folder of Zarr groups in which one object, written last, says that a group is complete.

Two kinds: a directory, where files are flushed to the disk before that object appears, and any
fsspec URL, where object stores make each object appear whole.
"""

import os
import shutil
from pathlib import Path
from typing import Protocol

import fsspec
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

COMMIT = "commit"  # the object written last, beside the group's zarr.json

Location = Path | str


class Folder(Protocol):
    """A folder of groups, named by one path component each."""

    def location(self, name: str) -> Location:
        """Path or URL of group ``name``."""

    def names(self) -> list[str]:
        """Groups present, complete or not, in any order; [] when the folder does not exist."""

    def store(self, name: str, read_only: bool) -> Store:
        """Zarr store of group ``name``."""

    def commitment(self, name: str) -> bytes | None:
        """Content of the commit object; None when the group is not complete."""

    def commit(self, name: str, content: bytes) -> None:
        """Declare group ``name`` complete; what was written before is durable by then."""

    def remove(self, name: str) -> None:
        """Remove a group, its commit object first, so that it is never complete and damaged."""


def open_folder(location: Location) -> Folder:
    """Folder for a local path or an fsspec URL (anything with ``://``)."""
    if isinstance(location, str) and "://" in location and not location.startswith("file://"):
        return RemoteFolder(location)
    return LocalFolder(Path(str(location).removeprefix("file://")))


def split(location: Location) -> tuple[Folder, str]:
    """The folder that holds the group at ``location``, and the group's name in it."""
    parent, _, name = str(location).rstrip("/").rpartition("/")
    return open_folder(parent or ("/" if str(location).startswith("/") else ".")), name


class LocalFolder:
    """Groups as directories."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def location(self, name: str) -> Path:
        return self.path / name

    def names(self) -> list[str]:
        if not self.path.is_dir():
            return []
        return [entry.name for entry in self.path.iterdir() if entry.is_dir()]

    def store(self, name: str, read_only: bool) -> Store:
        return LocalStore(self.path / name, read_only=read_only)

    def commitment(self, name: str) -> bytes | None:
        try:
            return (self.path / name / COMMIT).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def commit(self, name: str, content: bytes) -> None:
        group = self.path / name
        for folder, _, files in os.walk(group):
            for file in files:
                _flush(Path(folder) / file)
            _flush(Path(folder))
        _flush(self.path)
        # Under its own name only once it is whole: a reader sees all of the object or none of it.
        unfinished = group / f".{COMMIT}.partial"
        unfinished.write_bytes(content)
        _flush(unfinished)
        unfinished.replace(group / COMMIT)
        _flush(group)

    def remove(self, name: str) -> None:
        (self.path / name / COMMIT).unlink(missing_ok=True)
        # What cannot be removed now (a file open elsewhere on NFS) is incomplete, so ignored.
        shutil.rmtree(self.path / name, ignore_errors=True)


class RemoteFolder:
    """Groups under a URL prefix, through fsspec."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.fs, self.root = fsspec.core.url_to_fs(self.url)

    def location(self, name: str) -> str:
        return f"{self.url}/{name}"

    def names(self) -> list[str]:
        self.fs.invalidate_cache()
        try:
            entries = self.fs.ls(self.root, detail=True)
        except FileNotFoundError:
            return []
        return [
            entry["name"].rstrip("/").rpartition("/")[2]
            for entry in entries
            if entry["type"] == "directory"
        ]

    def store(self, name: str, read_only: bool) -> Store:
        return FsspecStore.from_url(self.location(name), read_only=read_only)

    def commitment(self, name: str) -> bytes | None:
        try:
            return bytes(self.fs.cat_file(f"{self.root}/{name}/{COMMIT}"))
        except FileNotFoundError:
            return None

    def commit(self, name: str, content: bytes) -> None:
        self.fs.pipe_file(f"{self.root}/{name}/{COMMIT}", content)

    def remove(self, name: str) -> None:
        for path, recursive in ((f"{name}/{COMMIT}", False), (name, True)):
            try:
                self.fs.rm(f"{self.root}/{path}", recursive=recursive)
            except FileNotFoundError:
                continue  # removed already, or never written


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
