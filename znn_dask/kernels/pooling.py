"""Edges that are not convolutions: max-filter, max-pooling, dropout, crop, identity; and maxout.

Every edge kernel works on one output region (`block`) at a time: `input_box` says what part of the
input map that region reads, `forward` takes exactly that part (z, y, x, c) and returns the region
with what backward needs (`residue`), `backward` returns the gradient of exactly that part. Results
are always fresh arrays: the owner of a result may write to it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from znn_dask.kernels import pooling_code
from znn_dask.kernels.geometry import Box, Triple, shift
from znn_dask.kernels.memory import aligned_copy, empty, zeros
from znn_dask.kernels.randomness import generator

Key = tuple[int | str, ...]
Floats = NDArray[np.floating]
Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool]


class EdgeKernel(Protocol):
    """What the task graph asks of an edge that is not a convolution."""

    def input_box(self, block: Box, input_size: Triple) -> Box:
        """Region of the input map that the output region `block` reads."""

    def forward(self, x: Floats, key: Key | None = None) -> tuple[Floats, Any]:
        """Output region of the input region `x` (z, y, x, c), and what `backward` needs."""

    def backward(self, g: Floats, residue: Any, input_shape: Sequence[int]) -> Floats:
        """Gradient of the input region of `input_shape` (z, y, x, c)."""


class _Maximum:
    """Maximum over windows; among equal values the one that ZNN's passes over z, y, x would choose.

    The number of the winner within its window is kept (uint8).
    """

    size: Triple
    dilation: Triple  # distance of the voxels of one window
    stride: Triple  # distance of one window to the next

    def __post_init__(self) -> None:
        if not all(1 <= k <= 256 for k in self.size):
            raise ValueError(f"{self}: window of 1 to 256 voxels wanted on each axis")

    def input_box(self, block: Box, input_size: Triple) -> Box:
        """Region of the input map that the output region `block` reads."""
        z, y, x = (self._inputs(part, axis) for axis, part in enumerate(block))
        return z, y, x

    def forward(self, x: Floats, key: Key | None = None) -> tuple[Floats, tuple[Bytes, ...]]:
        """Maxima (z, y, x, c) of the input region `x`, and which voxels they are.

        Raises ValueError if `x` is not a whole number of windows.
        """
        shapes = self._shapes(x.shape)
        chosen = []
        for size, shape in zip(self._passes, shapes[1:], strict=True):
            y, which = empty(shape, x.dtype), empty(shape, np.uint8)
            find = pooling_code.maximum(x.dtype)
            arrays = (x.ctypes.data, y.ctypes.data, which.ctypes.data)
            find.given(self._windows(size, x, shape))(*arrays)
            chosen.append(which)
            x = y
        return x if chosen else aligned_copy(x), tuple(chosen)

    def backward(self, g: Floats, residue: tuple[Bytes, ...], input_shape: Sequence[int]) -> Floats:
        """Gradient (z, y, x, c) of the input region: each voxel of `g` goes to its maximum."""
        if not residue:
            return aligned_copy(g)
        g = np.ascontiguousarray(g)
        shapes = self._shapes(input_shape)
        for size, shape, which in reversed([*zip(self._passes, shapes, residue, strict=False)]):
            dx = zeros(shape, g.dtype)
            add = pooling_code.scatter(g.dtype)
            arrays = (g.ctypes.data, dx.ctypes.data, which.ctypes.data)
            add.given(self._windows(size, dx, g.shape))(*arrays)
            g = dx
        return g

    @property
    def _passes(self) -> tuple[Triple, ...]:
        """Windows whose maxima are taken one after the other: one, if a byte can count it."""
        if self.size == (1, 1, 1):
            return ()
        if math.prod(self.size) <= 256:
            return (self.size,)
        z, y, x = self.size
        return tuple(k for k in ((z, 1, 1), (1, y, 1), (1, 1, x)) if k != (1, 1, 1))

    def _inputs(self, outputs: slice, axis: int) -> slice:
        """Input voxels that a range of output voxels reads, along `axis`."""
        last = (outputs.stop - 1) * self.stride[axis] + self._span(axis) - 1
        return slice(outputs.start * self.stride[axis], last + 1)

    def _span(self, axis: int) -> int:
        return (self.size[axis] - 1) * self.dilation[axis] + 1

    def _windows(self, size: Triple, x: Floats, outputs: Sequence[int]) -> tuple[int, ...]:
        """The arguments `pooling_code.WINDOWS` for windows of `size` on x."""
        z, y, columns, channels = outputs
        steps = tuple(stride // x.itemsize for stride in x.strides[:3])
        strides = (s if k > 1 else 1 for s, k in zip(self.stride, size, strict=True))
        windows = tuple(step * s for step, s in zip(steps, strides, strict=True))
        voxels = tuple(step * d for step, d in zip(steps, self.dilation, strict=True))
        line = (1, columns * channels) if windows[2] == channels else (columns, channels)
        return (z, y, *line, *size, *windows, *voxels)

    def _shapes(self, input_shape: Sequence[int]) -> list[tuple[int, ...]]:
        """Shape of the region before the passes and after each of them.

        Raises ValueError if it is not a whole number of windows.
        """
        shapes = [tuple(input_shape)]
        for size in self._passes:
            shape = list(shapes[-1])
            for axis in (a for a in range(3) if size[a] > 1):
                windows, rest = divmod(shape[axis] - self._span(axis), self.stride[axis])
                if windows < 0 or rest:
                    raise ValueError(
                        f"{self} does not fit an input of {tuple(input_shape[:3])}; "
                        "change the window or the output size"
                    )
                shape[axis] = windows + 1
            shapes.append(tuple(shape))
        return shapes


@dataclass(frozen=True)
class MaxFilter(_Maximum):
    """Maximum of a `size` window at every voxel, its voxels `dilation` apart (max-filter).

    Output is (size - 1) dilation smaller than the input on each axis. With a `stride`, windows are
    taken at every stride-th voxel only; the last one must end where the input ends.
    """

    size: Triple
    dilation: Triple = (1, 1, 1)
    stride: Triple = (1, 1, 1)


@dataclass(frozen=True)
class MaxPool(_Maximum):
    """Maximum of each `size` block; the input must be a whole number of blocks."""

    size: Triple
    dilation: Triple = field(default=(1, 1, 1), init=False, repr=False)
    stride: Triple = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "stride", self.size)  # blocks do not overlap


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
