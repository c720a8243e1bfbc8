"""The block plan: which task computes and writes which part of the output.  Pure; no I/O.

Three coordinate systems are in play, all in voxels and in z,y,x order:

* *image*: index into the image array;
* *dense*: index of an output voxel of the network run over the whole image; dense voxel `o` reads
  image voxels `o .. o + field of view - 1`, so `0 .. image - field of view` are the valid ones and
  any other needs mirrored image voxels;
* *output*: index into the output array, `dense - origin`.

    dense axis     0 ........................................ image - fov
    output array        |origin      block 0     block 1     block 2 |
    block 2 owns                                            [-------]   whole chunks
    block 2 computes                                  [-------------]   shifted inside: one size
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from znn_dask.kernels.geometry import Box, Triple, box_shape

Border = Literal["valid", "mirror"]

AXES = "zyx"


class PredictionError(ValueError):
    """A prediction that cannot be planned, begun, continued or finished; one line."""


def triple(values: Any) -> Triple:
    """(z, y, x) of plain ints."""
    z, y, x = (int(v) for v in values)
    return z, y, x


def box(start: Triple, shape: Triple) -> Box:
    """The box of `shape` voxels that begins at `start`."""
    z, y, x = (slice(a, a + n) for a, n in zip(start, shape, strict=True))
    return z, y, x


def box_start(region: Box) -> Triple:
    return triple(s.start for s in region)


def describe(region: Box) -> str:
    """`z 0:64, y 64:128, x 0:64`."""
    return ", ".join(f"{a} {s.start}:{s.stop}" for a, s in zip(AXES, region, strict=True))


@dataclass(frozen=True)
class Block:
    """One task: `write` (output) is owned by it alone, `compute` (dense) contains it."""

    index: int
    write: Box
    compute: Box

    def __str__(self) -> str:
        return f"block {self.index} ({describe(self.write)})"


@dataclass(frozen=True)
class BlockPlan:
    """Everything that decides what is computed and by which task; equal plans write equal volumes.

    image_shape: the image, voxels
    fields: field of view of each input node; smaller ones are centred in the largest
    border: "valid" computes only voxels whose whole field of view lies in the image, "mirror" all,
        with the image continued symmetrically (numpy "symmetric": the edge voxel is repeated)
    origin: dense coordinate of output voxel 0
    output_shape: the output array, voxels
    unit: shape of one chunk of the output array (of one shard, if it is sharded)
    block: shape written by one task, a multiple of `unit` on every axis that has several blocks
    margin: voxels computed before and not written by the task, (for flips of affinities)
    """

    image_shape: Triple
    fields: Mapping[str, Triple]
    border: Border
    origin: Triple
    output_shape: Triple
    unit: Triple
    block: Triple
    margin: Triple = (0, 0, 0)

    def __post_init__(self) -> None:
        for axis, out, unit, block in zip(
            AXES, self.output_shape, self.unit, self.block, strict=True
        ):
            if block < 1 or (block < out and block % unit):
                raise PredictionError(
                    f"a block of {self.block} voxels is not whole chunks of {self.unit} "
                    f"along {axis}: two tasks would write one chunk and lose data; "
                    f"give {axis} a multiple of {unit}"
                )

    @property
    def field_of_view(self) -> Triple:
        """The largest field of view over the input nodes, per axis."""
        return triple(max(axis) for axis in zip(*self.fields.values(), strict=True))

    @property
    def valid_shape(self) -> Triple:
        """Number of dense voxels whose whole field of view lies in the image."""
        return valid_shape(self.image_shape, self.field_of_view)

    @property
    def grid(self) -> Triple:
        """Number of blocks along each axis."""
        return triple(math.ceil(n / b) for n, b in zip(self.output_shape, self.block, strict=True))

    @property
    def count(self) -> int:
        return math.prod(self.grid)

    @property
    def voxels(self) -> int:
        """Voxels of the output array."""
        return math.prod(self.output_shape)

    @property
    def compute_shape(self) -> Triple:
        """Output size of the network in every task."""
        return triple(
            min(b, n) + m
            for b, n, m in zip(self.block, self.output_shape, self.margin, strict=True)
        )

    def at(self, index: int) -> Block:
        """Block number `index`, counted in C order over the grid."""
        _, rows, columns = self.grid
        position = (index // (rows * columns), index // columns % rows, index % columns)
        start = triple(p * b for p, b in zip(position, self.block, strict=True))
        stop = triple(
            min(a + b, n) for a, b, n in zip(start, self.block, self.output_shape, strict=True)
        )
        write = box(start, triple(b - a for a, b in zip(start, stop, strict=True)))
        # The last block of an axis begins early instead of being smaller, so that one set of
        # transforms serves all; what it computes a second time it does not write.
        first = triple(
            o + min(a, max(n - b, 0)) - m
            for o, a, b, n, m in zip(
                self.origin, start, self.block, self.output_shape, self.margin, strict=True
            )
        )
        return Block(index, write, box(first, self.compute_shape))

    def __iter__(self) -> Iterator[Block]:
        return (self.at(k) for k in range(self.count))

    def to_dense(self, write: Box) -> Box:
        """Dense coordinates of a box given in output coordinates."""
        start = triple(o + a for o, a in zip(self.origin, box_start(write), strict=True))
        return box(start, box_shape(write))

    def input_box(self, node: str, compute: Box) -> Box:
        """Image box that input `node` reads for the dense box `compute`; may exceed the image."""
        fov, own = self.field_of_view, self.fields[node]
        start = triple(
            a + (f - n) // 2 for a, f, n in zip(box_start(compute), fov, own, strict=True)
        )
        return box(start, triple(b + n - 1 for b, n in zip(box_shape(compute), own, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` gives an equal plan."""
        return {
            "image_shape": list(self.image_shape),
            "fields_of_view": {name: list(fov) for name, fov in self.fields.items()},
            "border": self.border,
            "origin": list(self.origin),
            "output_shape": list(self.output_shape),
            "block": list(self.block),
            "unit": list(self.unit),
            "margin": list(self.margin),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "BlockPlan":
        return cls(
            image_shape=triple(values["image_shape"]),
            fields={name: triple(fov) for name, fov in values["fields_of_view"].items()},
            border=values["border"],
            origin=triple(values["origin"]),
            output_shape=triple(values["output_shape"]),
            unit=triple(values["unit"]),
            block=triple(values["block"]),
            margin=triple(values["margin"]),
        )


def valid_shape(image_shape: Triple, field_of_view: Triple) -> Triple:
    """image - field of view + 1 per axis (not positive where the image is too small)."""
    return triple(n - f + 1 for n, f in zip(image_shape, field_of_view, strict=True))


def half_field(field_of_view: Triple) -> Triple:
    """(fov - 1) // 2: the image voxel that dense voxel 0 lies on, as ZNN centres it."""
    return triple((f - 1) // 2 for f in field_of_view)


def output_extent(
    image_shape: Triple, field_of_view: Triple, border: Border, region: Box | None = None
) -> tuple[Triple, Triple]:
    """(origin in dense coordinates, shape) of the output array.

    region: image voxels that the output shall lie over; context is read from around it.
    Raises PredictionError when the image is smaller than the field of view, or the region is not
    inside what can be predicted.
    """
    if border not in ("valid", "mirror"):
        raise PredictionError(f"border is {border!r}; give 'valid' or 'mirror'")
    half = half_field(field_of_view)
    if border == "mirror":
        origin, shape = triple(-h for h in half), image_shape
    else:
        origin, shape = (0, 0, 0), valid_shape(image_shape, field_of_view)
        if min(shape) < 1:
            raise PredictionError(
                f"the image is {image_shape} voxels but the network's field of view is "
                f"{field_of_view}: give a larger image or border='mirror'"
            )
    if region is None:
        return origin, shape
    allowed = box(triple(o + h for o, h in zip(origin, half, strict=True)), shape)
    for asked, all_ in zip(region, allowed, strict=True):
        if not all_.start <= asked.start < asked.stop <= all_.stop:
            raise PredictionError(
                f"region {describe(region)} is not inside what border={border!r} predicts of this "
                f"image, {describe(allowed)}: give a region inside it"
            )
    return triple(a - h for a, h in zip(box_start(region), half, strict=True)), box_shape(region)
