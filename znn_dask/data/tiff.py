"""TIFF stacks: multi-page, BigTIFF, ImageJ, OME; uncompressed ones are memory-mapped."""

import logging
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from znn_dask.data.metadata import UNITS, VolumeError, VoxelSize
from znn_dask.data.pages import Pages
from znn_dask.data.reader import Box, Read, Reader


@contextmanager
def open_tiff(path: Path, scratch: Path | None = None) -> Iterator[Reader]:
    """The stack in a file; `scratch` is a folder for slices that memory has no room for."""
    with _complaints() as complaints:
        try:
            tiff = tifffile.TiffFile(path)
        except (tifffile.TiffFileError, OSError) as error:
            raise VolumeError(f"{path} is not a readable TIFF: {error}") from error
        with tiff:
            series = _only_series(path, tiff)
            # tifffile only logs a chain of pages that leads past the end of the file
            if any("invalid page offset" in c for c in complaints):
                raise VolumeError(
                    f"{path} is cut short after {len(tiff.pages)} pages: copy it again"
                )
            with _opened(path, tiff, series, scratch) as reader:
                yield reader


@contextmanager
def _complaints() -> Iterator[list[str]]:
    """What tifffile has to say on a file, kept off the screen."""
    heard: list[str] = []

    def listen(record: logging.LogRecord) -> bool:
        heard.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(listen)
    try:
        yield heard
    finally:
        logger.removeFilter(listen)


def _only_series(path: Path, tiff: Any) -> Any:
    """The image of the file; slices that were written one by one count as one stack."""
    every = list(tiff.series)
    if not every:
        raise VolumeError(f"{path} holds no image")
    kinds = {(s.shape, str(s.dtype), s.axes) for s in every}
    if len(every) == 1:
        return every[0]
    if len(kinds) > 1 or every[0].axes not in ("YX", "YXS") or len(every) != len(tiff.pages):
        shapes = ", ".join(str(s.shape) for s in every[:4])
        raise VolumeError(f"{path} holds {len(every)} images, {shapes}: save one stack a file")
    return tifffile.TiffPageSeries(
        [s.keyframe for s in every],
        (len(every), *every[0].shape),
        every[0].dtype,
        "Z" + every[0].axes,
    )


@contextmanager
def _opened(path: Path, tiff: Any, series: Any, scratch: Path | None) -> Iterator[Reader]:
    axes = "".join("z" if a in "ZIQTR" else a.lower() for a in series.axes)
    keep = [k for k, n in enumerate(series.shape) if n > 1 or axes[k] in "yx"]
    shape = tuple(series.shape[k] for k in keep)
    axes = "".join(axes[k] for k in keep)
    if "z" not in axes:  # slices that were saved as channels, as scripts often do for ImageJ
        axes = axes.replace("c", "z")
    axes = axes.replace("s", "c")
    if any(a not in "czyx" for a in axes) or len(set(axes)) != len(axes) or "yx" not in axes:
        raise VolumeError(
            f"{path} has axes {series.axes} {series.shape}: expected one stack (z,y,x), "
            "with channels at most"
        )
    size = _tiff_voxel_size(tiff)
    along = None if size is None else dict(zip("zyx", size, strict=True))
    spacing = None if along is None else tuple(along[a] for a in axes if a in along)
    dtype = np.dtype(series.dtype)
    chunks = tuple(n if a in "yx" else 1 for a, n in zip(axes, shape, strict=True))
    read = _memory_mapped(path, series, shape)
    if read is not None:
        yield Reader(shape, dtype, axes, spacing, chunks, read)
        return
    with closing(_pages(path, series, axes, shape, scratch)) as pages:
        yield Reader(shape, dtype, axes, spacing, chunks, pages.read)


def _memory_mapped(path: Path, series: Any, shape: tuple[int, ...]) -> Read | None:
    """Reader of uncompressed, contiguous data, which the system pages in as needed."""
    offset = series.dataoffset
    if offset is None or not series.keyframe.is_memmappable:
        return None
    dtype = np.dtype(series.dtype).newbyteorder(series.keyframe.parent.byteorder)
    end, there = offset + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if end > there:
        raise VolumeError(f"{path} is cut short: {there} bytes of {end}; copy it again")

    def read(box: Box) -> NDArray[Any]:
        # Mapped anew for every box: pages of the last one do not stay counted as ours.
        return np.array(np.memmap(path, dtype, "r", offset, shape)[box])

    return read


def _pages(
    path: Path, series: Any, axes: str, shape: tuple[int, ...], scratch: Path | None
) -> Pages:
    """Reader that decodes page after page."""
    page_axes = series.keyframe.axes.lower().replace("s", "c")
    kept = [k for k, n in enumerate(series.keyframe.shape) if n > 1 or page_axes[k] in "yx"]
    inner = "".join(page_axes[k] for k in kept)
    page_shape = tuple(series.keyframe.shape[k] for k in kept)
    outer = axes[: len(axes) - len(inner)]
    if "z" in inner or outer + inner != axes:
        raise VolumeError(f"{path} stores {series.axes} in blocks {inner}: save it as plain pages")
    outer_shape = shape[: len(outer)]

    def decode(index: tuple[int, ...], out: NDArray[Any]) -> None:
        page = series.pages[int(np.ravel_multi_index(index, outer_shape)) if outer else 0]
        if page is None:
            raise VolumeError(f"{path}: page {index} is missing")
        _decode(path, page, out.reshape(series.keyframe.shape))

    return Pages(outer_shape, page_shape, np.dtype(series.dtype), decode, scratch)


def _decode(path: Path, page: Any, out: NDArray[Any]) -> None:
    try:
        page.asarray(out=out, maxworkers=1)  # segment by segment
    except Exception as error:  # every codec has its own kind
        if "requires the 'imagecodecs'" in str(error) in str(error):
            raise VolumeError(
                f"{path} is compressed with {page.compression.name}, which needs imagecodecs: "
                "pip install 'znn-dask[formats]'"
            ) from error
        raise VolumeError(f"{path}: page {page.index} cannot be decoded: {error}") from error


def _tiff_voxel_size(tiff: Any) -> VoxelSize | None:
    """From OME-XML or ImageJ metadata; plain resolution tags (72 dpi) say nothing."""
    if tiff.ome_metadata:
        return _ome_voxel_size(tiff.ome_metadata)
    about = tiff.imagej_metadata
    if not about or "spacing" not in about:
        return None
    unit = UNITS.get(str(about.get("unit", "")).lower())
    tags = tiff.pages[0].tags
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    (xn, xd), (yn, yd) = tags["XResolution"].value, tags["YResolution"].value
    if not (xn and xd and yn and yd):
        return None
    return float(about["spacing"]) * unit, yd / yn * unit, xd / xn * unit


def _ome_voxel_size(xml: str) -> VoxelSize | None:
    for element in ElementTree.fromstring(xml).iter():
        if element.tag.endswith("Pixels"):
            found = []
            for axis in "ZYX":
                value = element.get(f"PhysicalSize{axis}")
                unit = UNITS.get(element.get(f"PhysicalSize{axis}Unit", "µm").lower())
                if value is None or unit is None:
                    return None
                found.append(float(value) * unit)
            return found[0], found[1], found[2]
    return None
