"""Where the arrays of a patch lie: pure integer geometry, axis order z, y, x.

The reference frame of a patch is its largest output, voxels 0 .. size-1 per axis. An array that is
n voxels larger starts n // 2 below, which is (field of view - 1) // 2 for inputs, as in ZNN and as
in prediction. A flipped axis swaps what is below and above, so that also even fields of view stay
aligned in augmented patches.

    labels      [context below | 0 ............ size-1 | context above]
    input   [..................................................]
"""

from collections.abc import Mapping
from dataclasses import dataclass

from znn_dask.data.augmentation import Variant
from znn_dask.kernels.geometry import Box, Triple

AXES = "zyx"


@dataclass(frozen=True)
class Extent:
    """An array's voxels below and above the reference output, per axis (negative: smaller)."""

    below: Triple
    above: Triple

    def grown(self, context: tuple[int, int]) -> "Extent":
        """With context (below, above) added on every axis."""
        (z0, y0, x0), (z1, y1, x1) = self.below, self.above
        low, high = context
        return Extent((z0 + low, y0 + low, x0 + low), (z1 + high, y1 + high, x1 + high))

    def placed(self, start: Triple, size: Triple, variant: Variant) -> Box:
        """Box in volume coordinates for a reference output at `start`, `size` as in the volume."""
        below, above = self.in_volume(variant)
        z, y, x = (
            slice(a - b, a + n + c) for a, n, b, c in zip(start, size, below, above, strict=True)
        )
        return (z, y, x)

    def in_volume(self, variant: Variant) -> tuple[Triple, Triple]:
        """Voxels (below, above) before the variant is applied, per axis of the volume."""
        below, above = variant.source(self.below), variant.source(self.above)
        pairs = [
            (a, b) if flip else (b, a)
            for b, a, flip in zip(below, above, variant.flips, strict=True)
        ]
        (z0, z1), (y0, y1), (x0, x1) = pairs
        return (z0, y0, x0), (z1, y1, x1)


REFERENCE = Extent((0, 0, 0), (0, 0, 0))


def extent(size: Triple, reference: Triple) -> Extent:
    """How an array of `size` lies around the reference output."""
    extra = [n - r for n, r in zip(size, reference, strict=True)]
    z, y, x = (e // 2 for e in extra)
    above = (extra[0] - z, extra[1] - y, extra[2] - x)
    return Extent((z, y, x), above)


def reference_size(output_sizes: Mapping[str, Triple]) -> Triple:
    """Largest output per axis."""
    z, y, x = (max(s[k] for s in output_sizes.values()) for k in range(3))
    return (z, y, x)


@dataclass(frozen=True)
class Geometry:
    """All arrays of a patch: `inputs` and `outputs` by node name, `labels` what targets read."""

    size: Triple
    inputs: Mapping[str, Extent]
    outputs: Mapping[str, Extent]
    label_context: tuple[int, int]  # that must exist, beyond the reference output
    mirror: bool

    def starts(self, shape: Triple, variant: Variant) -> Box | None:
        """Where the reference output may start in a volume of `shape`; None where nothing fits.

        With mirrored borders only the labels must lie within the volume.
        """
        size = variant.source(self.size)
        low = [0, 0, 0]
        high = list(shape)
        for item in self._inside():
            below, above = item.in_volume(variant)
            low = [max(v, b) for v, b in zip(low, below, strict=True)]
            high = [
                min(v, n - s - a + 1) for v, n, s, a in zip(high, shape, size, above, strict=True)
            ]
        if any(a >= b for a, b in zip(low, high, strict=True)):
            return None
        z, y, x = (slice(a, b) for a, b in zip(low, high, strict=True))
        return (z, y, x)

    def _inside(self) -> list[Extent]:
        """What must lie within the volume."""
        labels = REFERENCE.grown(self.label_context)
        return [labels] if self.mirror else [labels, *self.inputs.values()]

    def centre(self, variant: Variant) -> Triple:
        """Offset of the centre of the labels, (n - 1) // 2 of what is read, from the start."""
        below, above = REFERENCE.grown(self.label_context).in_volume(variant)
        z, y, x = (
            (n + b + a - 1) // 2 - b
            for n, b, a in zip(variant.source(self.size), below, above, strict=True)
        )
        return (z, y, x)

    def needed(self, variant: Variant) -> Triple:
        """Smallest volume that holds a patch of this variant."""
        size = variant.source(self.size)
        bounds = [e.in_volume(variant) for e in self._inside()]
        z, y, x = (
            size[k] + max(b[k] for b, _ in bounds) + max(a[k] for _, a in bounds) for k in range(3)
        )
        return (z, y, x)


def resolve_region(region: object, shape: Triple) -> Box:
    """A box with plain ints from None or one entry per axis: None, a slice, or (start, stop).

    Raises ValueError if it does not lie in a volume of `shape` or is empty.
    """
    if region is None:
        return (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
    if not isinstance(region, tuple | list) or len(region) != 3:
        raise ValueError(f"region {region!r} does not have one entry per axis z,y,x")
    sides = []
    for axis, entry, n in zip(AXES, region, shape, strict=True):
        side = slice(None) if entry is None else entry
        if not isinstance(side, slice):
            if not isinstance(side, tuple | list) or len(side) != 2:
                raise ValueError(f"region along {axis}: {entry!r} is not a slice or (start, stop)")
            side = slice(*side)
        start = 0 if side.start is None else int(side.start)
        stop = n if side.stop is None else int(side.stop)
        if side.step not in (None, 1) or not 0 <= start < stop <= n:
            raise ValueError(
                f"region {start}..{stop} along {axis} is not within the volume's 0..{n}"
            )
        sides.append(slice(start, stop))
    return (sides[0], sides[1], sides[2])


def mirrored(start: int, stop: int, low: int, high: int) -> list[int]:
    """Indices start..stop folded into low..high as numpy.pad(mode="symmetric") does."""
    n = high - low
    folded = [(i - low) % (2 * n) for i in range(start, stop)]
    return [low + (i if i < n else 2 * n - 1 - i) for i in folded]
