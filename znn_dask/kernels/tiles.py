"""The division of a map into tiles."""

from dataclasses import dataclass
from functools import cached_property

from znn_dask.kernels.geometry import AxisTiles, Box, Triple


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a map along its three axes."""

    axes: tuple[AxisTiles, AxisTiles, AxisTiles]

    @cached_property
    def row_axis(self) -> int:
        """The first axis that has several tiles: blocks are cut along it."""
        return next((a for a in range(3) if self.axes[a].tiles > 1), 0)

    def check(self, block: Box) -> None:
        """Raise ValueError where `block` cuts through tiles."""
        for b, axis in zip(block, self.axes, strict=True):
            if b.start % axis.step or (b.stop % axis.step and b.stop != axis.size):
                raise ValueError(
                    f"block {b.start}:{b.stop} cuts through tiles of {axis.step} outputs: "
                    "cut at multiples of rows()"
                )


def whole_map_tile(output_size: Triple, kernel: Triple, dilation: Triple) -> Triple:
    """Transform edges with which every sub-grid of the map is a single tile."""
    z, y, x = (
        1 if k == 1 else fast_size(-(-n // s) + k - 1)
        for n, k, s in zip(output_size, kernel, dilation, strict=True)
    )
    return (z, y, x)


def fast_size(least: int) -> int:
    """Smallest 2^a 3^b 5^c 7^d >= `least`, even where `least` is above 8."""
    size = least
    while not _is_fast(size) or (size > 8 and size % 2):
        size += 1
    return size


def _is_fast(size: int) -> bool:
    for factor in (2, 3, 5, 7):
        while size % factor == 0:
            size //= factor
    return size == 1
