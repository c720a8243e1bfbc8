"""Volumes without a kernel behind the page: a mosaic of middle slices."""

from collections.abc import Iterator

from znn_dask.data.volume import Volume
from znn_dask.display.page import facts, harmless, page, picture, pictures
from znn_dask.display.slices import EDGE, Item, items, jpeg, painted, plane, size_on_page


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
    image = found.get("image")
    if image is not None:
        yield _picture(image, None, 0)
        if image.shape[0] > 1:
            yield _picture(image, None, 1)
    for name, item in found.items():
        if name != "image":
            over = image is not None and image.shape == item.shape and item.kind != "image"
            yield _picture(image if over else None, item, 0)


def _picture(image: Item | None, item: Item | None, axis: int) -> str:
    """The middle slice of an image, of another item, or of both."""
    shown = item or image
    assert shown is not None
    position = shown.shape[axis] // 2
    under = None if image is None else plane(image, axis, position)
    over = None if item is None else plane(item, axis, position)
    if item is not None and item.kind == "image":
        under, over = over, None
    rgb = painted(under, over, shown.kind)
    name = f"{item.name} over image" if item is not None and image is not None else shown.name
    width, height = size_on_page(shown, axis, (rgb.shape[0], rgb.shape[1]), EDGE)
    return picture(jpeg(rgb), f"{name}, {'zyx'[axis]} = {position}", width, height)
