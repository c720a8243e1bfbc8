"""Volumes: Zarr v3 groups whose items ("image", "labels", "mask", ...) are OME-NGFF images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
import zarr.errors
from zarr.storage import FsspecStore, LocalStore

from znn_dask.data.metadata import (
    UNFINISHED,
    ImageMetadata,
    VolumeError,
    VoxelSize,
    checked_voxel_size,
    default_axes,
    multiscales,
    parse_multiscales,
)
from znn_dask.data.remote import is_local, location, zarr_store

Mode = Literal["r", "r+", "a"]

CHUNK_EDGE = 64


def _open_node(path: str, mode: Mode) -> zarr.Array | zarr.Group:
    path = location(path)
    if is_local(path) and not Path(path).exists():
        raise VolumeError(f"no volume at {path}: check the path, or import one there first")
    try:
        node = zarr.open(zarr_store(path), mode=mode)
        unfinished = UNFINISHED in node.attrs
    except (FileNotFoundError, zarr.errors.BaseZarrError, NotADirectoryError) as error:
        raise VolumeError(
            f"{path} is not a Zarr volume or array: import it with `znn-dask import` first"
        ) from error
    except Exception as error:  # every object store has its own kinds
        if is_local(path):
            raise
        raise VolumeError(f"{path} cannot be opened: {' '.join(str(error).split())}") from error
    if unfinished:
        raise VolumeError(f"{path} is an import that did not finish: run it again to go on")
    return node


@dataclass(frozen=True)
class Volume:
    """An open volume. Items are looked up by name: volume["image"] is its full-resolution array.

    Pickles as its path and mode, so it may travel to a worker that sees the same storage.
    """

    path: str
    mode: Mode = "r"

    @property
    def group(self) -> zarr.Group:
        """The root Zarr group; raises VolumeError where there is none."""
        node = _open_node(self.path, self.mode)
        if not isinstance(node, zarr.Group):
            raise VolumeError(f"{self.path} is one array, not a volume: open it with open_array")
        return node

    def _items(self) -> Iterator[tuple[str, zarr.Array, ImageMetadata]]:
        group = self.group
        whole = parse_multiscales(group.attrs)
        if whole is not None:  # somebody else's OME-Zarr: one image, at the root
            yield "image", _array_in(group, whole.path), whole
        for name, node in sorted(group.members()):
            if name.startswith(".") or (whole is not None and name == whole.path):
                continue
            if isinstance(node, zarr.Group):
                metadata = parse_multiscales(node.attrs)
                if metadata is not None:
                    yield name, _array_in(node, metadata.path), metadata
                elif whole is not None and name == "labels":
                    yield from _labels_of_image(node)
            elif node.ndim in (3, 4) and whole is None:
                yield name, node, ImageMetadata(default_axes(node.ndim), (1.0, 1.0, 1.0), "")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the items, sorted."""
        return tuple(name for name, _, _ in self._items())

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> zarr.Array:
        for found, array, _ in self._items():
            if found == name:
                return array
        have = ", ".join(self.names) or "nothing"
        raise VolumeError(f"{self.path} has no item {name!r}, it has {have}")

    def metadata(self, name: str) -> ImageMetadata:
        """Axes and voxel size of an item; raises VolumeError for an unknown name."""
        for found, _, metadata in self._items():
            if found == name:
                return metadata
        have = ", ".join(self.names) or "nothing"
        raise VolumeError(f"{self.path} has no item {name!r}, it has {have}")

    def _optional(self, name: str) -> zarr.Array | None:
        return self[name] if name in self.names else None

    @property
    def image(self) -> zarr.Array | None:
        """Item "image" (z,y,x) or (c,z,y,x), or None."""
        return self._optional("image")

    @property
    def labels(self) -> zarr.Array | None:
        """Item "labels" (z,y,x), unsigned integers, or None."""
        return self._optional("labels")

    @property
    def mask(self) -> zarr.Array | None:
        """Item "mask" (z,y,x); voxels > 0 count in training; or None."""
        return self._optional("mask")

    @property
    def voxel_size(self) -> VoxelSize:
        """(z, y, x) in nm, of "image" if there is one, else of the first item."""
        names = self.names
        if not names:
            raise VolumeError(f"{self.path} is empty: import an image into it first")
        return self.metadata("image" if "image" in names else names[0]).voxel_size

    def __repr__(self) -> str:
        """Path and items; of a volume that cannot be read why not."""
        try:
            items = [
                f"  {name}  {'x'.join(map(str, array.shape))} {array.dtype}, "
                f"voxels of {' x '.join(f'{v:g}' for v in about.voxel_size)} nm"
                for name, array, about in self._items()
            ]
        except Exception as error:  # whatever a damaged store raises: looking must not fail
            items = [f"  cannot be read: {error}"]
        return "\n".join([f"Volume {self.path}", *(items or ["  empty"])])

    def _repr_html_(self) -> str | None:
        from znn_dask.display.volume import volume_html

        return volume_html(self)

    def _repr_mimebundle_(self, **only: Any) -> dict[str, Any]:
        from znn_dask.display.slider import volume_bundle

        return volume_bundle(self) or {}


def _labels_of_image(group: zarr.Group) -> Iterator[tuple[str, zarr.Array, ImageMetadata]]:
    """What NGFF keeps in the group "labels" of an image: "labels" if it is alone there."""
    holder: Any = group.attrs.get("ome", group.attrs)
    names = [str(name) for name in holder.get("labels", ())]
    for name in names:
        node = group[name]
        metadata = parse_multiscales(node.attrs)
        if isinstance(node, zarr.Group) and metadata is not None:
            item = "labels" if len(names) == 1 else f"labels/{name}"
            yield item, _array_in(node, metadata.path), metadata


def _array_in(group: zarr.Group, path: str) -> zarr.Array:
    node = group[path]
    if not isinstance(node, zarr.Array):
        raise VolumeError(f"{group.store_path}: {path!r} is not an array; the metadata is wrong")
    return node


def open_volume(path: str | Path, mode: Mode = "r") -> Volume:
    """Open the volume at `path` (folder or URL); raises VolumeError if there is none."""
    volume = Volume(str(path), mode)
    _ = volume.group  # fail now, not at first use
    return volume


def open_array(url: str | Path, mode: Mode = "r") -> zarr.Array:
    """The full-resolution array at `url`: "vol.zarr/image", "vol.zarr/image/0", or a plain array.

    A volume with a single item may be named alone. Raises VolumeError when it is not clear which
    array is meant.
    """
    node = _open_node(str(url), mode)
    if isinstance(node, zarr.Array):
        return node
    metadata = parse_multiscales(node.attrs)
    if metadata is not None:
        return _array_in(node, metadata.path)
    volume = Volume(str(url), mode)
    names = volume.names
    if len(names) == 1:
        return volume[names[0]]
    if not names:
        raise VolumeError(f"{url} has no image in it: import one first")
    raise VolumeError(f"{url} has {', '.join(names)}: say which one, such as {url}/{names[0]}")


def describe_array(array: zarr.Array) -> ImageMetadata:
    """Axes and voxel size of an array, from the image that it is a level of.

    An array outside of any image gets axes by its number of dimensions and voxels of 1 nm.
    """
    return recorded(array) or ImageMetadata(default_axes(array.ndim), (1.0, 1.0, 1.0), "")


def recorded(array: zarr.Array) -> ImageMetadata | None:
    """What the image says of which an array is a level; None for arrays outside of any."""
    parent, name = _parent(array)
    return None if parent is None else parse_multiscales(parent.attrs, name)


def image_attributes(array: zarr.Array) -> Mapping[str, Any]:
    """Attributes of the image group that an array is in; empty where there is none."""
    parent, _ = _parent(array)
    return {} if parent is None else dict(parent.attrs)


def _parent(array: zarr.Array) -> tuple[zarr.Group | None, str]:
    """The group that an array is in, and the array's name there."""
    path, store = array.path.strip("/"), array.store
    above, _, name = path.rpartition("/")
    try:
        if path:
            return zarr.open_group(store, path=above, mode="r"), name
        if isinstance(store, LocalStore):
            return zarr.open_group(store.root.parent, mode="r"), store.root.name
        if isinstance(store, FsspecStore):
            above, _, name = store.path.rstrip("/").rpartition("/")
            return zarr.open_group(
                FsspecStore(store.fs, path=above, read_only=True), mode="r"
            ), name
    except (OSError, ValueError, zarr.errors.BaseZarrError):
        pass
    return None, name


def default_chunks(shape: Sequence[int]) -> tuple[int, ...]:
    """Chunks of 64 voxels per axis, one channel each."""
    spatial = tuple(max(1, min(CHUNK_EDGE, n)) for n in shape[-3:])
    return (1,) * (len(shape) - 3) + spatial


def create_item(
    store: str | Path,
    path: str,
    name: str,
    shape: Sequence[int],
    dtype: Any,
    *,
    chunks: Sequence[int] | None = None,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    axes: str | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> zarr.Array:
    """Create the image group `path` in `store` and return its empty array "0".

    `name` is what the metadata calls it. `attributes` take the metadata's place where the group is
    to become an image only when it is complete. Raises VolumeError.
    """
    shape = tuple(int(n) for n in shape)
    axes = default_axes(len(shape)) if axes is None else axes
    if axes != default_axes(len(shape)):
        raise VolumeError(f"axes {axes!r} do not fit shape {shape}: use zyx or czyx")
    if min(shape) < 1:
        raise VolumeError(f"shape {shape} is empty: every axis needs at least one voxel")
    chunks = default_chunks(shape) if chunks is None else tuple(int(n) for n in chunks)
    if len(chunks) != len(shape) or min(chunks) < 1:
        raise VolumeError(f"chunks {chunks} do not fit shape {shape}: give one edge per axis")
    chunks = tuple(min(c, n) for c, n in zip(chunks, shape, strict=True))
    if attributes is None:
        attributes = multiscales(name, axes, checked_voxel_size(voxel_size))
    group = zarr.create_group(
        zarr_store(store), path=path, attributes=dict(attributes), zarr_format=3
    )
    return group.create_array(
        "0",
        shape=shape,
        dtype=np.dtype(dtype),
        chunks=chunks,
        dimension_names=tuple(axes),
        fill_value=0,
    )


def checked_name(name: str) -> str:
    """`name` if it can name an image; raises VolumeError otherwise."""
    if not name or name.startswith(".") or "/" in name:
        raise VolumeError(f"{name!r} cannot name an image: use a plain word such as 'image'")
    return name


def create_image(
    volume_path: str | Path,
    name: str,
    shape: Sequence[int],
    dtype: Any,
    chunks: Sequence[int] | None = None,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    axes: str | None = None,
    *,
    overwrite: bool = False,
) -> zarr.Array:
    """Create an empty image in a volume (made if absent) and return its full-resolution array.

    `shape` is (z,y,x) or (c,z,y,x), `chunks` as long (default 64 per spatial axis), `voxel_size`
    (z,y,x) in nm. Raises VolumeError if the name is taken and `overwrite` is not given.
    """
    checked_name(name)
    group = zarr.open_group(zarr_store(volume_path), mode="a", zarr_format=3)
    if name in group:
        if not overwrite:
            raise VolumeError(f"{volume_path} already has {name!r}: use another name or overwrite")
        del group[name]
    return create_item(
        volume_path, name, name, shape, dtype, chunks=chunks, voxel_size=voxel_size, axes=axes
    )
