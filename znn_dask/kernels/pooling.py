"""Edges that are not convolutions: max-filter, max-pooling, dropout, crop, identity; and maxout.

Every edge kernel works on one output region (`block`) at a time: `input_box` says what part of the
input map that region reads, `forward` takes exactly that part (z, y, x, c) and returns the region
with what backward needs (`residue`), `backward` returns the gradient of exactly that part. Results
are always fresh arrays: the owner of a result may write to it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from znn_dask.kernels.geometry import Box, Triple, shift
from znn_dask.kernels.memory import aligned_copy, empty, zeros
from znn_dask.kernels.randomness import generator

Key = tuple[int | str, ...]
Floats = NDArray[np.floating]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool]

# Elements worked on at a time: all passes over them then run in the L2 cache.
_CHUNK = 1 << 17


class EdgeKernel(Protocol):
    """What the task graph asks of an edge that is not a convolution."""

    def input_box(self, block: Box, input_size: Triple) -> Box:
        """Region of the input map that the output region `block` reads."""

    def forward(self, x: Floats, key: Key | None = None) -> tuple[Floats, Any]:
        """Output region of the input region `x` (z, y, x, c), and what `backward` needs."""

    def backward(self, g: Floats, residue: Any, input_shape: Sequence[int]) -> Floats:
        """Gradient of the input region of `input_shape` (z, y, x, c)."""


class _Maximum:
    """Maximum over windows, in separable passes over axes 0, 1, 2 as in ZNN.

    Each pass keeps the window index (uint8) of its maximum; of equal values the lowest index wins.
    """

    size: Triple
    dilation: Triple  # distance of the voxels of one window

    @property
    def stride(self) -> Triple:
        """Distance of one window to the next."""
        return (1, 1, 1)

    def __post_init__(self) -> None:
        if not all(1 <= k <= 256 for k in self.size):
            raise ValueError(f"{self}: window of 1 to 256 voxels wanted on each axis")

    def input_box(self, block: Box, input_size: Triple) -> Box:
        """Region of the input map that the output region `block` reads."""
        z, y, x = (self._inputs(part, axis) for axis, part in enumerate(block))
        return z, y, x

    def forward(self, x: Floats, key: Key | None = None) -> tuple[Floats, tuple[Bytes, ...]]:
        """Maxima (z, y, x, c) of the input region `x`, and what each real pass chose.

        Raises ValueError if `x` is not a whole number of windows.
        """
        shapes = self._shapes(x.shape)
        passes = [axis for axis in range(3) if self.size[axis] > 1]
        if not passes:
            return aligned_copy(x), ()
        y = empty(shapes[3], x.dtype)
        chosen = tuple(empty(shapes[axis + 1], np.uint8) for axis in passes)
        step = _planes(shapes[1])
        scratch = [empty((step, *shape[1:]), x.dtype) for shape in shapes[1:3]]
        for planes in _slabs(shapes[3][0], step):
            part = x[self._inputs(planes, 0)]
            for axis, choice in zip(passes, chosen, strict=True):
                target = y[planes] if axis == passes[-1] else scratch[axis][: len(y[planes])]
                windows = self._windows(part, axis, target.shape[axis])
                part = _maximum(windows, target, choice[planes])
        return y, chosen

    def backward(self, g: Floats, residue: tuple[Bytes, ...], input_shape: Sequence[int]) -> Floats:
        """Gradient (z, y, x, c) of the input region: each voxel of `g` goes to its maximum."""
        shapes = self._shapes(input_shape)
        passes = [axis for axis in range(3) if self.size[axis] > 1]
        if not passes:
            return aligned_copy(g)
        dx = zeros(shapes[0], g.dtype)
        step = _planes(shapes[1])
        scratch = [empty((step, *shape[1:]), g.dtype) for shape in shapes[1:3]]
        product = empty((step * math.prod(shapes[1][1:]),), g.dtype)
        for planes in _slabs(shapes[3][0], step):
            part = g[planes]
            for axis, choice in zip(reversed(passes), reversed(residue), strict=True):
                # slabs overlap along axis 0, so the last target is only ever added to
                last = axis == passes[0]
                if last:
                    target = dx[self._inputs(planes, 0)]
                else:
                    target = scratch[axis - 1][: len(part)]
                    self._clear(target, axis, part.shape[axis])
                windows = self._windows(target, axis, part.shape[axis])
                _scatter(part, choice[planes], windows, product, add_first=last)
                part = target
        return dx

    def _inputs(self, outputs: slice, axis: int) -> slice:
        """Input voxels that a range of output voxels reads, along `axis`."""
        last = (outputs.stop - 1) * self.stride[axis] + self._span(axis) - 1
        return slice(outputs.start * self.stride[axis], last + 1)

    def _span(self, axis: int) -> int:
        return (self.size[axis] - 1) * self.dilation[axis] + 1

    def _windows(self, values: Floats, axis: int, count: int) -> list[Floats]:
        """For j in 0..size-1 the j-th voxel of each of `count` windows along `axis`, as views."""
        stride = self.stride[axis]
        starts = (j * self.dilation[axis] for j in range(self.size[axis]))
        taps = (slice(start, start + (count - 1) * stride + 1, stride) for start in starts)
        return [values[(slice(None),) * axis + (tap,)] for tap in taps]

    def _clear(self, values: Floats, axis: int, count: int) -> None:
        """Zero all that the first voxels of `count` windows do not cover (and perhaps more)."""
        covered = count if self.stride[axis] == 1 else 0
        values[(slice(None),) * axis + (slice(covered, None),)] = 0

    def _shapes(self, input_shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Shape of the region before the passes and after each of the three."""
        shapes = [tuple(input_shape)]
        for axis in range(3):
            *shape, channels = shapes[-1]
            windows, rest = divmod(shape[axis] - self._span(axis), self.stride[axis])
            if windows < 0 or rest:
                raise ValueError(
                    f"{self} does not fit an input of {tuple(input_shape[:3])}; "
                    "change the window or the output size"
                )
            shape[axis] = windows + 1
            shapes.append((*shape, channels))
        return shapes


@dataclass(frozen=True)
class MaxFilter(_Maximum):
    """Maximum of a `size` window at every voxel, its voxels `dilation` apart (max-filter).

    Output is (size - 1) dilation smaller than the input on each axis.
    """

    size: Triple
    dilation: Triple = (1, 1, 1)


@dataclass(frozen=True)
class MaxPool(_Maximum):
    """Maximum of each `size` block; the input must be a whole number of blocks."""

    size: Triple
    dilation: Triple = field(default=(1, 1, 1), init=False, repr=False)

    @property
    def stride(self) -> Triple:
        """Blocks do not overlap."""
        return self.size


@dataclass(frozen=True)
class Dropout:
    """Keep each value with probability `ratio` and scale it by 1 / ratio; identity without a key.

    The mask is a pure function of key, shape and ratio.
    """

    ratio: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise ValueError(f"dropout ratio {self.ratio}: give a probability to keep in (0, 1]")

    def input_box(self, block: Box, input_size: Triple) -> Box:
        """The block itself."""
        return block

    def forward(self, x: Floats, key: Key | None = None) -> tuple[Floats, Mask | None]:
        """`x` (z, y, x, c) with dropped values at zero, and the mask of those kept."""
        if key is None:
            return aligned_copy(x), None
        # float32 for either dtype of x: the mask must not depend on it
        drawn = empty(x.shape, np.float32)
        generator(*key).random(out=drawn, dtype=np.float32)
        kept = np.less(drawn, np.float32(self.ratio), out=empty(x.shape, np.bool))
        return self._apply(x, kept), kept

    def backward(self, g: Floats, residue: Mask | None, input_shape: Sequence[int]) -> Floats:
        """Gradient (z, y, x, c): `g` where the value was kept, scaled alike."""
        return aligned_copy(g) if residue is None else self._apply(g, residue)

    def _apply(self, values: Floats, kept: Mask) -> Floats:
        scaled = np.multiply(values, 1 / self.ratio, out=empty(values.shape, values.dtype))
        return np.multiply(scaled, kept, out=scaled)


@dataclass(frozen=True)
class Crop:
    """Remove `offset` voxels on both sides of each axis."""

    offset: Triple

    def input_box(self, block: Box, input_size: Triple) -> Box:
        """The block, `offset` further into the input map."""
        return shift(block, self.offset)

    def forward(self, x: Floats, key: Key | None = None) -> tuple[Floats, None]:
        """The region as it is: cropping is done by `input_box`."""
        return aligned_copy(x), None

    def backward(self, g: Floats, residue: None, input_shape: Sequence[int]) -> Floats:
        """The gradient as it is; the rest of the input map gets none."""
        return aligned_copy(g)


@dataclass(frozen=True)
class Identity(Crop):
    """One-to-one edge that changes nothing (ZNN's dummy edge): a crop by nothing."""

    offset: Triple = (0, 0, 0)


def maxout(maps: Sequence[Floats]) -> tuple[Floats, Bytes]:
    """Elementwise maximum of maps (z, y, x, c) and the index of the winner, lowest among equals.

    Raises ValueError for no maps, more than 256, or different shapes.
    """
    if not 1 <= len(maps) <= 256 or len({m.shape for m in maps}) > 1:
        raise ValueError(f"maxout of {[m.shape for m in maps]}: give 1 to 256 maps of one shape")
    y, winner = empty(maps[0].shape, maps[0].dtype), empty(maps[0].shape, np.uint8)
    return _maximum(maps, y, winner), winner


def maxout_backward(g: Floats, winner: Bytes, i: int) -> Floats:
    """Gradient (z, y, x, c) of the i-th map given to `maxout`."""
    return np.multiply(g, winner == i)


def _maximum(windows: Sequence[Floats], out: Floats, chosen: Bytes) -> Floats:
    """Maximum of equally shaped arrays into `out`; index of the first maximum into `chosen`."""
    if len(windows) == 1:
        chosen.fill(0)
        np.copyto(out, windows[0])
        return out
    np.greater(windows[1], windows[0], out=chosen.view(np.bool))
    np.maximum(windows[0], windows[1], out=out)
    later = empty(out.shape, np.uint8)
    for j, window in enumerate(windows[2:], start=2):
        np.greater(window, out, out=later.view(np.bool))
        # indices rise, so the last that was greater is the largest: whole-array integer ufuncs
        np.multiply(later, j, out=later)
        np.maximum(chosen, later, out=chosen)
        np.maximum(out, window, out=out)
    return out


def _scatter(
    g: Floats, chosen: Bytes, windows: Sequence[Floats], scratch: Floats, add_first: bool
) -> None:
    """Add each value of `g` to the window that was chosen; `scratch` holds at least `g.size`.

    Window 0 is overwritten unless `add_first`.
    """
    product = scratch[: g.size].reshape(g.shape)
    for j, window in enumerate(windows):
        if j == 1 and len(windows) == 2:
            # what window 0 did not get, exactly: the products are `g` or zero
            np.subtract(g, product, out=product)
        else:
            # a float mask: numpy multiplies floats by booleans more slowly
            np.equal(chosen, j, out=product)
            np.multiply(product, g, out=product)
        if j == 0 and not add_first:
            np.copyto(window, product)
        else:
            np.add(window, product, out=window)


def _planes(shape: Sequence[int]) -> int:
    """Planes of axis 0 that hold about `_CHUNK` elements."""
    return min(shape[0], max(1, _CHUNK // max(1, math.prod(shape[1:]))))


def _slabs(length: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
