"""Volumes on object stores, reached through fsspec by their URLs."""

from pathlib import Path

from zarr.storage import FsspecStore, LocalStore

from znn_dask.data.metadata import VolumeError

EXTRAS = {"s3": "s3", "s3a": "s3"}  # of this package, by protocol


def is_local(path: str) -> bool:
    """Whether `path` names a file system path and not an object store URL."""
    return "://" not in path


def location(path: str | Path) -> str:
    """A folder or URL as the rest of the package writes it: no "file://", no slash at the end.

    Raises VolumeError for URLs that no installed package can open.
    """
    text = str(path).removeprefix("file://")
    text = text.rstrip("/") or text
    if not is_local(text):
        import fsspec

        protocol = text.partition("://")[0]
        try:
            fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            missing = f"pip install 'znn-dask[{extra}]'" if extra else " ".join(str(error).split())
            raise VolumeError(f"{text} needs another package: {missing}") from error
        except ValueError as error:
            raise VolumeError(f"{text}: fsspec knows no protocol {protocol}://") from error
    return text


def zarr_store(path: str | Path) -> LocalStore | FsspecStore:
    """The Zarr store at a folder or URL; raises VolumeError as `location` does.

    What others write beside us is seen at once: fsspec would remember what it listed before.
    """
    place = location(path)
    if is_local(place):
        return LocalStore(Path(place))
    return FsspecStore.from_url(place, storage_options={"use_listings_cache": False})
