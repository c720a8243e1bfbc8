"""The loops of direct convolution, compiled for the channels and kernel at hand (see `loops`).

Both keep a block of sums in vector registers, lanes along the output channels, and read the maps
where they are: nothing is gathered. Kernels are padded to whole vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise, product

import numpy as np

from znn_dask.kernels.jit import Compiled, registers
from znn_dask.kernels.loops import Loops, Value

_MOST_VECTORS = 3  # of output channels side by side: more leave too few sums per vector to reuse it
_STARTED = 3  # products of a value and a vector that a tap costs beside those that it adds


@dataclass(frozen=True)
class Lanes:
    """How `channels` output channels are cut into vectors of `width`, and these into groups."""

    channels: int
    width: int

    @property
    def vectors(self) -> int:
        return -(-self.channels // self.width)

    @property
    def padded(self) -> int:
        """Channels with those that fill the last vector."""
        return self.vectors * self.width

    @property
    def groups(self) -> tuple[range, ...]:
        """Vectors that are worked on together, as equal as possible."""
        count = -(-self.vectors // _MOST_VECTORS)
        cuts = [i * self.vectors // count for i in range(count + 1)]
        return tuple(range(a, b) for a, b in pairwise(cuts))

    @property
    def sums(self) -> int:
        """Sums per lane that fit into the registers beside what is multiplied."""
        widest = max(len(group) for group in self.groups)
        return (registers().count - 1 - widest) // widest

    def filled(self, vector: int) -> int:
        """Lanes in use of a vector."""
        return min(self.width, self.channels - vector * self.width)


def lanes(channels: int, dtype: np.dtype[np.floating]) -> Lanes:
    """The vectors that waste least on this machine; bits do not depend on them."""
    most = registers().bytes // dtype.itemsize
    return Lanes(channels, max(2, min(most, 1 << (channels - 1).bit_length())))


@cache
def block(out: Lanes, outputs: int, taps: int, step: int, low: int, high: int) -> int:
    """Voxels of a line of `outputs` whose sums are made together, for the least work.

    A tap is taken for a whole block where one voxel of it reads anything in [low, high): with taps
    `step` apart, long blocks read zeros.
    """
    vectors = max(len(group) for group in out.groups)

    def work(size: int) -> int:
        blocks = 0
        for tap in range(taps):
            first, last = max(0, low - tap * step), min(outputs, high - tap * step)
            blocks += (last - 1) // size - first // size + 1
        return blocks * (size * vectors + _STARTED)

    return min(range(min(outputs, out.sums), 0, -1), key=work)


class _Sums:
    """Sums in registers: `count` rows of the vectors in `group`."""

    def __init__(self, code: Loops, out: Lanes, group: range, count: int) -> None:
        self._code, self._out, self._group = code, out, group
        self._rows = [[code.variable(out.width) for _ in group] for _ in range(count)]

    def clear(self) -> None:
        for variable in chain(*self._rows):
            self._code.set(variable, self._code.zero(self._out.width))

    def add_products(self, values: Sequence[Value], factors: Value, filled: bool) -> None:
        """Row i += value at values[i] * vectors at `factors`, which may be `filled` up."""
        code, width = self._code, self._out.width
        vectors = [
            code.load(code.at(factors, v * width), width, width if filled else self._out.filled(v))
            for v in self._group
        ]
        for address, row in zip(values, self._rows, strict=True):
            value = code.spread(address, width)
            for total, vector in zip(row, vectors, strict=True):
                code.set(total, code.multiply_add(value, vector, code.get(total)))

    def store(self, target: Value, step: int) -> None:
        """Write row i to `target` + i step, lanes in use only."""
        code, width = self._code, self._out.width
        for i, row in enumerate(self._rows):
            for v, total in zip(self._group, row, strict=True):
                address = code.at(target, i * step + v * width)
                code.store(code.get(total), address, width, self._out.filled(v))

    def add_to(self, targets: Sequence[Value]) -> None:
        """Add row i to the vectors at targets[i], lanes in use only."""
        code, width = self._code, self._out.width
        for target, row in zip(targets, self._rows, strict=True):
            for v, total in zip(self._group, row, strict=True):
                address, filled = code.at(target, v * width), self._out.filled(v)
                added = code.add(code.load(address, width, filled), code.get(total))
                code.store(added, address, width, filled)


CORRELATE = (
    *("nz", "ny", "nx"),  # outputs
    *("kz", "ky", "kx"),  # taps
    *("lz", "ly", "lx"),  # first position that holds anything
    *("hz", "hy", "hx"),  # and the one after the last
    *("sz", "sy", "sx"),  # dilation
    *("xz", "xy"),  # strides of x
    *("wz", "wy", "wx"),  # strides of w
)


@cache
def correlate(
    dtype: np.dtype[np.floating],
    pitch: int,
    row: int,
    inputs: int,
    outputs: int,
    block: int,
    by_planes: bool,
    one_tap: bool,
) -> Compiled:
    """y[p] = sum_d x[p + d s] w[d], called with x, w, y and CORRELATE.

    Voxels of x are `pitch` elements apart; one input channel's `outputs` kernels in w are
    followed, `row` elements on, by the next one's; y is contiguous. Sums of `block` voxels along
    the last axis, nx or fewer, are made together. Positions of x outside [l, h) are taken as zero;
    along the last axis they must be there and hold zeros. `by_planes`: each plane of taps is summed
    by itself and then added, as long sums lose digits. `one_tap`: the kernel has no other.
    """
    out = lanes(outputs, dtype)
    code = Loops("correlate", dtype, ("x", "w", "y"), CORRELATE)
    size, dilation = code.arguments("nz", "ny", "nx"), code.arguments("sz", "sy", "sx")
    x_strides, w_strides = (*code.arguments("xz", "xy"), pitch), code.arguments("wz", "wy", "wx")
    for group in out.groups:
        sums = _Sums(code, out, group, block)
        with code.loop(0, size[0]) as z, code.loop(0, size[1]) as y:
            # once for a line: divisions take long
            z_taps, y_taps = (_taps(code, a, p, 1, one_tap) for a, p in (("z", z), ("y", y)))
            with code.loop(0, size[2], block) as start:
                # the last block overlaps the one before: equal values are written twice
                x = code.smaller(start, code.difference(size[2], block))
                x_taps = _taps(code, "x", x, block, one_tap)
                voxel = code.sum(code.product(code.sum(code.product(z, size[1]), y), size[2]), x)
                target = code.at(code["y"], code.product(voxel, outputs))
                sums.clear()
                if by_planes:
                    sums.store(target, outputs)
                with code.loop(*z_taps) as dz:
                    if by_planes:
                        sums.clear()
                    with code.loop(*y_taps) as dy, code.loop(*x_taps) as dx:
                        tap = (dz, dy, dx)
                        place = [
                            code.sum(p, code.product(d, s))
                            for p, d, s in zip((z, y, x), tap, dilation, strict=True)
                        ]
                        values = code.at(code["x"], code.dot(place, x_strides))
                        kernels = code.at(code["w"], code.dot(tap, w_strides))
                        _sum_channels(code, sums, values, kernels, (inputs, pitch, row, block))
                    if by_planes:
                        sums.add_to([code.at(target, i * outputs) for i in range(block)])
                if not by_planes:
                    sums.store(target, outputs)
    return code.compile()


def _taps(
    code: Loops, axis: str, position: Value, length: int, one_tap: bool
) -> tuple[Value, Value]:
    """Taps along an axis with which `length` outputs from `position` on read anything."""
    if one_tap:
        return 0, 1
    low, high, step = code.arguments("l" + axis, "h" + axis, "s" + axis)
    first = code.ceiling(code.difference(low, code.sum(position, length - 1)), step)
    last = code.ceiling(code.difference(high, position), step)
    return first, code.smaller(code["k" + axis], last)


def _sum_channels(
    code: Loops, sums: _Sums, values: Value, kernels: Value, shape: tuple[int, int, int, int]
) -> None:
    """Row i of sums += sum_c values[i, c] kernels[c], one input channel after the other."""
    inputs, pitch, row, block = shape
    unrolled = next(n for n in (4, 5, 3, 2, 1) if inputs % n == 0)
    with code.loop(0, inputs, unrolled) as c:
        value, kernel = code.base(values, c), code.base(kernels, code.product(c, row))
        for i in range(unrolled):
            voxels = [code.at(value, i + j * pitch) for j in range(block)]
            sums.add_products(voxels, code.at(kernel, i * row), filled=True)


KERNEL_GRADIENT = (
    *("nz", "ny", "nx"),  # voxels of g
    *("kz", "ky", "kx"),  # taps
    *("sz", "sy"),  # dilation
    *("xz", "xy"),  # strides of x
    *("gz", "gy"),  # strides of g
)


@cache
def kernel_gradient(
    dtype: np.dtype[np.floating], pitch: int, inputs: int, outputs: int, ky: int, kx: int, sx: int
) -> Compiled:
    """dw[-d, c] += sum_p x[p + d s, c] g[p], called with x, g, dw and KERNEL_GRADIENT.

    Voxels of x are `pitch` elements apart, those of g `outputs`, taps along x `sx` voxels; dw is
    (kz, ky, kx, inputs, outputs), contiguous. The sum over p runs in raster order from zero.
    """
    out = lanes(outputs, dtype)
    code = Loops("kernel_gradient", dtype, ("x", "g", "dw"), KERNEL_GRADIENT)
    lines, columns, channels = _together(inputs, ky, kx, out.sums)
    taps = tuple(product(range(lines), range(columns)))
    x_strides = (*code.arguments("xz", "xy"), pitch)
    dilation = (*code.arguments("sz", "sy"), sx)
    tap_strides = [code.product(*pair) for pair in zip(dilation, x_strides, strict=True)]
    last_tap = code.difference(code.product(code["kz"], ky * kx), 1)
    distances = [code.product(line, tap_strides[1]) for line in range(lines)]
    offsets = [column * sx * pitch for column in range(columns)]
    for group in out.groups:
        for first, last, count in channels:
            sums = _Sums(code, out, group, len(taps) * count)
            with (
                code.loop(0, code["kz"]) as dz,
                code.loop(0, ky, lines) as dy,
                code.loop(0, kx, columns) as dx,
                code.loop(first, last, count) as c,
            ):
                sums.clear()
                x = code.at(code["x"], code.sum(code.dot((dz, dy, dx), tap_strides), c))
                _sum_voxels(code, sums, x, (distances, offsets), (count, pitch, outputs))
                targets = []
                for i, j in taps:
                    tap = code.dot((dz, code.sum(dy, i), code.sum(dx, j)), (ky * kx, kx, 1))
                    flipped = code.difference(last_tap, tap)
                    kernel = code.product(code.sum(code.product(flipped, inputs), c), outputs)
                    target = code.at(code["dw"], kernel)
                    targets += [code.at(target, k * outputs) for k in range(count)]
                sums.add_to(targets)
    return code.compile()


def _together(
    inputs: int, ky: int, kx: int, most: int
) -> tuple[int, int, list[tuple[int, int, int]]]:
    """Taps along y and x, and ranges of channels (first, last, step), of one block of sums.

    A block has at most `most` of them, and blocks make up the whole.
    """
    count = -(-inputs // most)
    each, larger = divmod(inputs, count)
    cut = larger * (each + 1)
    ranges = [(0, cut, each + 1), (cut, inputs, each)]
    columns = kx if inputs * kx <= most else 1
    room = most // (inputs * kx)
    lines = max((n for n in range(1, ky + 1) if ky % n == 0 and n <= room), default=1)
    return lines, columns, [r for r in ranges if r[0] < r[1]]


def _sum_voxels(
    code: Loops,
    sums: _Sums,
    x: Value,
    taps: tuple[Sequence[Value], Sequence[int]],
    shape: tuple[int, int, int],
) -> None:
    """Rows of sums += x[p + tap, c] g[p] for each tap and channel, over all voxels p.

    Taps are distances of lines and, within each of them, constant offsets of columns.
    """
    lines, columns = taps
    channels, pitch, outputs = shape
    x_strides, g_strides = code.arguments("xz", "xy"), code.arguments("gz", "gy")
    with code.loop(0, code["nz"]) as z, code.loop(0, code["ny"]) as y:
        x_line = code.at(x, code.dot((z, y), x_strides))
        g_line = code.at(code["g"], code.dot((z, y), g_strides))
        with code.loop(0, code["nx"]) as voxel:
            place = code.product(voxel, pitch)
            bases = [code.base(x_line, code.sum(place, distance)) for distance in lines]
            values = [
                code.at(base, column + c)
                for base in bases
                for column in columns
                for c in range(channels)
            ]
            gradient = code.base(g_line, code.product(voxel, outputs))
            sums.add_products(values, gradient, filled=False)
