"""A folder of small files at a path or URL: each appears whole, and some are created only once."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import fsspec

# Object stores that refuse to create what exists, whoever asks first: claims rest on it.
_EXCLUSIVE = {"s3", "s3a", "memory"}


class JobsError(ValueError):
    """A job, or the folder of jobs, cannot be used as asked; the message is one line."""


class Folder(Protocol):
    """Files and folders in one place; names are relative, with `/` between their parts."""

    location: str

    def read(self, name: str) -> bytes | None:
        """Content of a file, None where there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, or replace it, at once."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless it exists, of several writers one alone; whether it is ours.

        It is durable by then. `content` must differ from what anybody else would write: a store
        may answer that the file exists where it was our own request that made it.
        """

    def names(self, name: str = "") -> list[str]:
        """Names of the entries of a folder, sorted; [] where there is none."""

    def remove(self, name: str) -> None:
        """Remove a file or folder, if it is there."""


def open_folder(location: str | Path) -> Folder:
    """Folder at an absolute path or an fsspec URL.

    Raises JobsError for a relative path, and for file systems that cannot keep two drivers apart.
    """
    text = str(location).rstrip("/")
    if "://" in text and not text.startswith("file://"):
        return _Remote(text)
    path = Path(text.removeprefix("file://"))
    if not path.is_absolute():
        raise JobsError(f"the jobs folder {text!r} is relative: give a path that all workers see")
    return _Local(path)


class _Local:
    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self._path = path

    def read(self, name: str) -> bytes | None:
        try:
            return (self._path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        partial = self._partial(name, content)
        partial.replace(self._path / name)

    def create(self, name: str, content: bytes) -> bool:
        partial = self._partial(name, content, durable=True)
        try:
            # Unlike opening it for writing, a link gives the name to a file that is whole.
            os.link(partial, self._path / name)
        except FileExistsError:
            return self.read(name) == content
        finally:
            partial.unlink()
        _flush(partial.parent)
        return True

    def names(self, name: str = "") -> list[str]:
        try:
            entries = os.listdir(self._path / name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(entry for entry in entries if not entry.startswith("."))

    def remove(self, name: str) -> None:
        path = self._path / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def _partial(self, name: str, content: bytes, *, durable: bool = False) -> Path:
        """The content under another name beside `name`."""
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        partial.write_bytes(content)
        if durable:
            _flush(partial)
        return partial


class _Remote:
    def __init__(self, url: str) -> None:
        self.location = url
        protocol = url.partition("://")[0]
        if protocol not in _EXCLUSIVE:
            raise JobsError(
                f"{url}: {protocol} cannot keep two drivers of one job apart; keep jobs on a "
                "file system that all workers share, or on s3"
            )
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise JobsError(f'{url} needs s3fs: pip install "znn-dask[s3]"') from error

    def read(self, name: str) -> bytes | None:
        try:
            with self._asking():
                return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        with self._asking():
            self._fs.pipe_file(f"{self._root}/{name}", content)

    def create(self, name: str, content: bytes) -> bool:
        try:
            with self._asking():
                self._fs.pipe_file(f"{self._root}/{name}", content, mode="create")
        except FileExistsError:
            return self.read(name) == content
        return True

    def names(self, name: str = "") -> list[str]:
        self._fs.invalidate_cache()
        try:
            with self._asking():
                entries = self._fs.ls(f"{self._root}/{name}".rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        found = (entry.rstrip("/").rpartition("/")[2] for entry in entries)
        return sorted({entry for entry in found if entry})

    def remove(self, name: str) -> None:
        try:
            with self._asking():
                self._fs.rm(f"{self._root}/{name}", recursive=True)
        except FileNotFoundError:
            return

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Raise OSError for whatever the library of an object store raises."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{self.location}: {' '.join(str(error).split())}") from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
