"""How an array is cut into boxes of whole chunks (pure integer geometry)."""

import itertools
import math
from collections.abc import Iterator, Sequence

Block = tuple[slice, ...]


def cut(shape: Sequence[int], edges: Sequence[int]) -> Iterator[Block]:
    """Boxes with these edges, smaller at the far ends, that cover `shape` in C order."""
    ranges = [range(0, n, e) for n, e in zip(shape, edges, strict=True)]
    for corner in itertools.product(*ranges):
        yield tuple(slice(a, min(a + e, n)) for a, e, n in zip(corner, edges, shape, strict=True))


def cubes(shape: Sequence[int], unit: Sequence[int], edge: int) -> Iterator[Block]:
    """Boxes of whole chunks of shape `unit`, for work that may be done in any order.

    They are about `edge` voxels long along z, y and x, and one chunk along the channels.
    """
    lead = len(shape) - 3
    return cut(shape, [*unit[:lead], *(max(1, edge // u) * u for u in unit[lead:])])


def rows(
    shape: Sequence[int], unit: Sequence[int], theirs: Sequence[int], voxels: int
) -> Iterator[Block]:
    """Boxes (z,y,x) of whole chunks of shape `unit`, of about `voxels` voxels, one after another.

    They are as long as possible along x, then y, and where it fits of whole chunks of shape
    `theirs` too, so that what is stored slice by slice or in other chunks is read once.
    """
    edges = list(unit)
    for axis in (2, 1, 0):
        room = max(1, voxels // (math.prod(edges) // edges[axis]))
        both = math.lcm(edges[axis], max(1, theirs[axis]))
        step = both if both <= room else edges[axis]
        edges[axis] = min(shape[axis], max(edges[axis], room // step * step))
    return cut(shape, edges)
