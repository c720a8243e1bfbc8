"""The loops of direct convolution for few channels: lanes along the voxels (see `loops`).

Maps are copied to planes, one per channel and z, whose lines follow each other at one pitch. Then
every tap is a shift of the flat index, and a vector of voxels is multiplied by one number of the
kernel. At the end of each line a vector holds voxels that nobody wants.
"""

from collections.abc import Sequence
from functools import cache
from itertools import chain, pairwise

import numpy as np

from znn_dask.kernels.jit import Compiled, registers
from znn_dask.kernels.loops import Loops, Value


def voxel_lanes(dtype: np.dtype[np.floating]) -> int:
    """Voxels of a vector in `correlate`."""
    return registers().bytes // dtype.itemsize


def most_vectors(outputs: int) -> int:
    """Vectors of voxels whose sums for a group of output channels fit into the registers."""
    group = max(len(g) for g in groups(outputs, _most_outputs()))
    return max(1, (registers().count - 2 - group) // group)


def _most_outputs() -> int:
    return 6 if registers().count >= 32 else 3


def groups(count: int, most: int) -> list[range]:
    """`count` things in groups of at most `most`, as equal as possible."""
    number = -(-count // most)
    cuts = [i * count // number for i in range(number + 1)]
    return [range(a, b) for a, b in pairwise(cuts)]


PLANES = (
    *("nc", "nz", "ny", "nx"),
    *("xz", "xy", "xx"),  # strides of x
    *("pc", "pz", "py"),  # strides of p
)


@cache
def planes(dtype: np.dtype[np.floating]) -> Compiled:
    """Copy x (z, y, x, c) to p (c, z, y, x), called with x, p and PLANES."""
    code = Loops("planes", dtype, ("x", "p"), PLANES)
    width = voxel_lanes(dtype)
    x_strides, p_strides = code.arguments("xz", "xy", "xx"), code.arguments("pz", "py")
    with (
        code.loop(0, code["nz"]) as z,
        code.loop(0, code["ny"]) as y,
        code.loop(0, code["nx"], width) as x,
    ):
        mask = code.first_lanes(code.difference(code["nx"], x), width)
        source = code.at(code["x"], code.dot((z, y, x), x_strides))
        target = code.at(code["p"], code.sum(code.dot((z, y), p_strides), x))
        with code.loop(0, code["nc"]) as c:
            voxels = code.load_apart(code.at(source, c), code["xx"], mask)
            code.store_where(voxels, code.at(target, code.product(c, code["pc"])), mask)
    return code.compile()


CORRELATE = (
    *("nz", "count"),  # outputs: planes, and flat positions in each
    *("kz", "ky", "kx"),  # taps
    *("lz", "ly"),  # first plane and line that hold anything but zeros
    *("hz", "hy"),  # and those after the last
    *("sz", "sy", "sx"),  # dilation
    "pitch",  # of lines, in x and in y
    *("xc", "xz"),  # strides of x
    "yz",  # stride of y
    *("wz", "wy", "wx"),  # strides of w
)


@cache
def correlate(
    dtype: np.dtype[np.floating],
    w_strides: tuple[int, int],
    inputs: int,
    outputs: int,
    block: int,
    by_planes: bool,
) -> Compiled:
    """y[p] = sum_d x[p + d s] w[d], called with x, w, y and CORRELATE.

    x is (c, z, flat), y (z, flat, outputs). Strides of w along input and output channels are
    `w_strides`. Sums of `block` vectors, count or fewer voxels, are made together. Planes of x
    outside [lz, hz) are not read; lines outside [ly, hy) are there and hold zeros. `by_planes`:
    each plane of taps is summed by itself and then added, as long sums lose digits.
    """
    code = Loops("narrow_correlate", dtype, ("x", "w", "y"), CORRELATE)
    width = voxel_lanes(dtype)
    span = block * width
    pitch, (sz, sy, sx) = code["pitch"], code.arguments("sz", "sy", "sx")
    for group in groups(outputs, _most_outputs()):
        sums = [[code.variable(width) for _ in range(block)] for _ in group]
        with code.loop(0, code["nz"]) as z, code.loop(0, code["count"], span) as start:
            # the last block overlaps the one before: equal values are written twice
            p = code.smaller(start, code.difference(code["count"], span))
            first, last = code.quotient(p, pitch), code.quotient(code.sum(p, span - 1), pitch)
            place = code.sum(code.product(z, code["yz"]), code.product(p, outputs), group[0])
            target = code.at(code["y"], place)
            clear(code, sums)
            if by_planes:
                _store_by_voxels(code, sums, target, outputs, add=False)
            with code.loop(*_taps(code, "z", z, z)) as dz:
                if by_planes:
                    clear(code, sums)
                with (
                    code.loop(*_taps(code, "y", first, last)) as dy,
                    code.loop(0, code["kx"]) as dx,
                ):
                    plane = code.product(code.sum(z, code.product(dz, sz)), code["xz"])
                    shift = code.dot((code.product(dy, sy), code.product(dx, sx)), (pitch, 1))
                    x = code.at(code["x"], code.sum(plane, shift, p))
                    tap = code.dot((dz, dy, dx), code.arguments("wz", "wy", "wx"))
                    w = code.at(code["w"], code.sum(tap, group[0] * w_strides[1]))
                    _add_channels(code, sums, x, w, inputs, w_strides)
                if by_planes:
                    _store_by_voxels(code, sums, target, outputs, add=True)
            if not by_planes:
                _store_by_voxels(code, sums, target, outputs, add=False)
    return code.compile()


def clear(code: Loops, sums: Sequence[Sequence[Value]]) -> None:
    """Begin all sums at zero."""
    for variable in chain(*sums):
        code.set(variable, code.zero(code.get(variable).type.count))


def _taps(code: Loops, axis: str, first: Value, last: Value) -> tuple[Value, Value]:
    """Taps along an axis with which outputs from `first` to `last` read anything but zeros."""
    low, high, step = code.arguments("l" + axis, "h" + axis, "s" + axis)
    start = code.ceiling(code.difference(low, last), step)
    stop = code.ceiling(code.difference(high, first), step)
    return start, code.smaller(code["k" + axis], stop)


def _add_channels(
    code: Loops,
    sums: Sequence[Sequence[Value]],
    x: Value,
    w: Value,
    inputs: int,
    w_strides: tuple[int, int],
) -> None:
    """sums[k][v] += sum_c x[c, v] w[c, k], one input channel after the other."""
    width = code.get(sums[0][0]).type.count
    unrolled = next(n for n in (5, 4, 3, 2, 1) if inputs % n == 0)
    with code.loop(0, inputs, unrolled) as c:
        for i in range(unrolled):
            channel = code.sum(c, i)
            voxels = code.base(x, code.product(channel, code["xc"]))
            numbers = code.at(w, code.product(channel, w_strides[0]))
            factors = [
                code.spread(code.at(numbers, k * w_strides[1]), width) for k in range(len(sums))
            ]
            for v in range(len(sums[0])):
                vector = code.load(code.at(voxels, v * width), width)
                for row, factor in zip(sums, factors, strict=True):
                    code.set(row[v], code.multiply_add(vector, factor, code.get(row[v])))


def _store_by_voxels(
    code: Loops, sums: Sequence[Sequence[Value]], y: Value, outputs: int, add: bool
) -> None:
    """Write sums[k][v] lane i to y[(v width + i) outputs + k], or `add` it there."""
    group = len(sums)
    for v in range(len(sums[0])):
        rows = [code.get(row[v]) for row in sums]
        width = rows[0].type.count
        if group == outputs:
            for j, vector in enumerate(_interleaved(code, rows)):
                target = code.at(y, (v * outputs + j) * width)
                sum_ = code.add(code.load(target, width), vector) if add else vector
                code.store(sum_, target, width)
        else:
            everywhere = code.first_lanes(width, width)
            for k, vector in enumerate(rows):
                target = code.at(y, v * width * outputs + k)
                if add:
                    vector = code.add(code.load_apart(target, outputs, everywhere), vector)
                code.store_apart(vector, target, outputs)


def _interleaved(code: Loops, rows: Sequence[Value]) -> list[Value]:
    """The vectors (a0, b0, .., a1, b1, ..), .. of vectors a, b, ..."""
    count, width = len(rows), rows[0].type.count
    vectors = []
    for j in range(count):
        source = [divmod(j * width + lane, count) for lane in range(width)]
        vector = code.zero(width)
        for k, row in enumerate(rows):
            lanes = [width + i if of == k else lane for lane, (i, of) in enumerate(source)]
            vector = code.shuffle(vector, row, lanes)
        vectors.append(vector)
    return vectors
