"""Boxes of voxels and the division of one axis into tiles. Axis order z, y, x everywhere."""

from dataclasses import dataclass
from functools import cached_property

Triple = tuple[int, int, int]
Box = tuple[slice, slice, slice]


def whole(size: Triple) -> Box:
    """The box that covers a map of `size`."""
    return (slice(0, size[0]), slice(0, size[1]), slice(0, size[2]))


def box_shape(box: Box) -> Triple:
    """Voxels of `box` along each axis."""
    z, y, x = box
    return (z.stop - z.start, y.stop - y.start, x.stop - x.start)


def intersect(a: Box, b: Box) -> Box | None:
    """The voxels that both boxes hold; None where there are none."""
    z, y, x = (slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    if z.start >= z.stop or y.start >= y.stop or x.start >= x.stop:
        return None
    return (z, y, x)


def shift(box: Box, offset: Triple) -> Box:
    """`box` moved by `offset`; shift(box, -origin) is the box relative to that origin."""
    z, y, x = (slice(s.start + d, s.stop + d) for s, d in zip(box, offset, strict=True))
    return (z, y, x)


def origin(box: Box) -> Triple:
    """First voxel of `box`."""
    return (box[0].start, box[1].start, box[2].start)


def relative(box: Box, frame: Box) -> Box:
    """`box` in the coordinates of an array that covers `frame`."""
    z, y, x = origin(frame)
    return shift(box, (-z, -y, -x))


def blocks(size: Triple, axis: int, step: int, count: int) -> tuple[Box, ...]:
    """A map of `size` cut along `axis` into at most `count` boxes at multiples of `step`.

    The boxes are as equal as whole steps allow; the larger ones come first.
    """
    steps = -(-size[axis] // step)
    count = max(1, min(count, steps))
    each, extra = divmod(steps, count)
    boxes = []
    start = 0
    for index in range(count):
        stop = min(start + (each + (index < extra)) * step, size[axis])
        sides = [slice(0, n) for n in size]
        sides[axis] = slice(start, stop)
        boxes.append((sides[0], sides[1], sides[2]))
        start = stop
    return tuple(boxes)


def dilated_input(block: Box, kernel: Triple, dilation: Triple) -> Box:
    """Input box that a valid dilated convolution reads to compute the output box `block`."""
    z, y, x = (
        slice(b.start, b.stop + (k - 1) * s)
        for b, k, s in zip(block, kernel, dilation, strict=True)
    )
    return (z, y, x)


@dataclass(frozen=True)
class AxisTiles:
    """One axis of a valid convolution, cut into tiles.

    A dilation s makes s interleaved sub-grids (phases), on each of which the convolution is dense.
    Each sub-grid is cut into tiles of `edge` inputs, which give edge - kernel + 1 outputs::

        inputs of tile 0   |------- edge -------|
        outputs of tile 0          |-- outputs --|
        inputs of tile 1                 |------- edge -------|

    Tile i over all phases covers outputs i*outputs*s .. (i+1)*outputs*s of the map, contiguously.
    """

    size: int  # outputs of the map
    kernel: int
    dilation: int
    edge: int

    @cached_property
    def outputs(self) -> int:
        """Outputs of one tile in one phase."""
        return self.edge - self.kernel + 1

    @cached_property
    def step(self) -> int:
        """Outputs of one tile over all phases."""
        return self.outputs * self.dilation

    @cached_property
    def phases(self) -> int:
        return min(self.dilation, self.size)

    @cached_property
    def tiles(self) -> int:
        return -(-self.size // self.step)


def split(sizes: Triple, most: int) -> tuple[Box, ...]:
    """A grid of `sizes` cut into boxes of at most `most` (at least one) elements, in raster order.

    Inner axes stay whole for as long as they fit; the cuts along an axis are as equal as possible.
    """
    parts: list[tuple[slice, ...]] = []
    room = max(1, most)
    for size in reversed(sizes):
        count = -(-size // max(1, min(size, room)))
        parts.append(tuple(slice(i * size // count, (i + 1) * size // count) for i in range(count)))
        room = room // size if count == 1 else 1
    xs, ys, zs = parts
    return tuple((z, y, x) for z in zs for y in ys for x in xs)
