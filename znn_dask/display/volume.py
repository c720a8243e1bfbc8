"""Volumes without a kernel behind the page: a mosaic of middle slices."""

from collections.abc import Iterator

from znn_dask.data.volume import Volume
from znn_dask.display.page import facts, harmless, page, picture, pictures
from znn_dask.display.slices import AXES, EDGE, Item, items, shoot


@harmless
def volume_html(volume: Volume) -> str:
    """Middle slices of every item, ids and masks in colour over the image, and the voxel sizes."""
    found = items(volume)
    return page(f"Volume {volume.path}", facts(described(found)), pictures(_mosaic(found)))


def described(found: dict[str, Item]) -> Iterator[tuple[str, str]]:
    """Name, shape, type, size of the voxels."""
    for name, item in found.items():
        voxels = " × ".join(f"{v:g}" for v in item.voxel_size)
        shape = " × ".join(map(str, item.array.shape))
        axes = "c, z, y, x" if item.array.ndim == 4 else "z, y, x"
        yield name, f"{shape} ({axes}), {item.array.dtype}, voxels of {voxels} nm"


def _mosaic(found: dict[str, Item]) -> Iterator[str]:
    image = next((item for item in found.values() if item.kind == "image"), None)
    for name, item in found.items():
        if item.kind == "image":
            yield _picture(item, None, 0, name)
            if item is image and item.shape[0] > 1:
                yield _picture(item, None, 1, name)
        elif image is not None and image.shape == item.shape:
            yield _picture(image, item, 0, f"{name} over {image.name}")
        else:
            yield _picture(None, item, 0, name)


def _picture(image: Item | None, over: Item | None, axis: int, name: str) -> str:
    """The middle slice."""
    shown = image or over
    assert shown is not None
    position = shown.shape[axis] // 2
    shot = shoot(image, over, axis, position, EDGE)
    return picture(shot.jpeg, f"{name}, {AXES[axis]} = {position}", shot.width, shot.height)
