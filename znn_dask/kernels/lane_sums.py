"""Loops of direct convolution whose lanes are added at the end (see `loops`).

Of a kernel gradient, lanes run along the voxels: a vector of sums for each pair of channels. Of a
product with few outputs they run along the inputs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain

import numpy as np

from znn_dask.kernels.jit import Compiled, registers
from znn_dask.kernels.loops import Loops, Value
from znn_dask.kernels.narrow_code import clear, groups

_BYTES = 64  # of a vector of sums, on every machine: it decides bits


def summed_lanes(dtype: np.dtype[np.floating]) -> int:
    """Lanes that are summed apart, and added at the end."""
    return _BYTES // dtype.itemsize


KERNEL_GRADIENT = (
    *("nz", "count"),  # voxels of g: planes, and flat positions in each
    *("planes", "span"),  # of a chunk
    *("kz", "ky", "kx"),  # taps
    *("sz", "sy", "sx"),  # dilation
    "pitch",  # of lines, in x and in g
    *("xc", "xz"),  # strides of x
    *("gc", "gz"),  # strides of g
)


@cache
def kernel_gradient(dtype: np.dtype[np.floating], inputs: int, outputs: int) -> Compiled:
    """dw[-d, c, k] = sum_p x[p + d s, c] g[p, k], called with x, g, total, dw and KERNEL_GRADIENT.

    x is (c, z, flat), g (k, z, flat), both readable up to the next whole vector, where g is zero.
    dw is (kz, ky, kx, inputs, outputs), contiguous; total, zeros at first, holds a vector for each
    of its numbers. Chunks of `planes` and, within them, of `span` positions are summed one by one.
    """
    code = Loops("narrow_kernel_gradient", dtype, ("x", "g", "total", "dw"), KERNEL_GRADIENT)
    width, pairs = summed_lanes(dtype), inputs * outputs
    room = registers().count * registers().bytes // _BYTES
    blocks = groups(inputs, max(1, (room - 1 - outputs) // outputs))
    with (
        code.loop(0, code["nz"], code["planes"]) as z,
        code.loop(0, code["count"], code["span"]) as p,
        _all_taps(code) as (shift, tap),
    ):
        last_z = code.smaller(code["nz"], code.sum(z, code["planes"]))
        last_p = code.smaller(code["count"], code.sum(p, code["span"]))
        total = code.at(code["total"], code.product(tap, pairs * width))
        for block in blocks:
            sums = [[code.variable(width) for _ in range(outputs)] for _ in block]
            clear(code, sums)
            first = code.at(code["x"], code.sum(shift, code.product(block[0], code["xc"])))
            with code.loop(z, last_z) as plane:
                x = code.at(first, code.product(plane, code["xz"]))
                g = code.at(code["g"], code.product(plane, code["gz"]))
                with code.loop(p, last_p, width) as voxel:
                    _add_pairs(code, sums, code.at(x, voxel), code.at(g, voxel))
            for pair, variable in enumerate(chain(*sums), block[0] * outputs):
                target = code.at(total, pair * width)
                code.store(code.add(code.load(target, width), code.get(variable)), target, width)
    with _all_taps(code) as (_, tap), code.loop(0, pairs) as pair:
        number = code.sum(code.product(tap, pairs), pair)
        vector = code.load(code.at(code["total"], code.product(number, width)), width)
        last = code.difference(code.product(code["kz"], code.product(code["ky"], code["kx"])), 1)
        flipped = code.sum(code.product(code.difference(last, tap), pairs), pair)
        code.store(_added(code, vector), code.at(code["dw"], flipped), 1)
    return code.compile()


@contextmanager
def _all_taps(code: Loops) -> Iterator[tuple[Value, Value]]:
    """For every tap: its shift of the flat index of x, and its number."""
    kz, ky, kx = code.arguments("kz", "ky", "kx")
    with code.loop(0, kz) as dz, code.loop(0, ky) as dy, code.loop(0, kx) as dx:
        dilated = [code.product(d, code[s]) for d, s in ((dz, "sz"), (dy, "sy"), (dx, "sx"))]
        number = code.sum(code.product(code.sum(code.product(dz, ky), dy), kx), dx)
        yield code.dot(dilated, (code["xz"], code["pitch"], 1)), number


def _add_pairs(code: Loops, sums: Sequence[Sequence[Value]], x: Value, g: Value) -> None:
    """sums[c][k] += x[c] g[k] for one vector of voxels."""
    width = code.get(sums[0][0]).type.count
    gradients = [
        code.load(code.at(g, code.product(k, code["gc"])), width) for k in range(len(sums[0]))
    ]
    for c, row in enumerate(sums):
        values = code.load(code.at(x, code.product(c, code["xc"])), width)
        for variable, gradient in zip(row, gradients, strict=True):
            code.set(variable, code.multiply_add(values, gradient, code.get(variable)))


def _added(code: Loops, vector: Value) -> Value:
    """The sum of all lanes: halves are added until one lane is left."""
    width = vector.type.count
    while width > 1:
        width //= 2
        low, high = (code.shuffle(vector, vector, range(n, n + width)) for n in (0, width))
        vector = code.add(low, high)
    return vector


PRODUCT = ("count",)  # voxels


@cache
def product(dtype: np.dtype[np.floating], inputs: int, outputs: int, block: int) -> Compiled:
    """y[p, k] = sum_c x[p, c] w[k, c], called with x, w, y and PRODUCT: lanes along the inputs.

    x, w and y are contiguous. Sums of `block` voxels, count or fewer, are made together.
    """
    code = Loops("narrow_product", dtype, ("x", "w", "y"), PRODUCT)
    width = summed_lanes(dtype)
    with code.loop(0, code["count"], block) as start:
        # the last block overlaps the one before: equal values are written twice
        p = code.smaller(start, code.difference(code["count"], block))
        sums = [[code.variable(width) for _ in range(outputs)] for _ in range(block)]
        clear(code, sums)
        x = code.at(code["x"], code.product(p, inputs))
        voxels = [code.at(x, j * inputs) for j in range(block)]
        whole = inputs // width * width
        with code.loop(0, whole, width) as c:
            _add_inputs(code, sums, [code.base(v, c) for v in voxels], c, inputs, width)
        if whole < inputs:
            last = [code.at(v, whole) for v in voxels]
            _add_inputs(code, sums, last, whole, inputs, inputs - whole)
        y = code.at(code["y"], code.product(p, outputs))
        for i, variable in enumerate(chain(*sums)):
            code.store(_added(code, code.get(variable)), code.at(y, i), 1)
    return code.compile()


def _add_inputs(
    code: Loops,
    sums: Sequence[Sequence[Value]],
    voxels: Sequence[Value],
    first: Value,
    inputs: int,
    lanes: int,
) -> None:
    """sums[j][k] += voxels[j] w[k] for a vector of `lanes` inputs from `first` on."""
    width = code.get(sums[0][0]).type.count
    w = code.at(code["w"], first)
    factors = [code.load(code.at(w, k * inputs), width, lanes) for k in range(len(sums[0]))]
    for row, voxel in zip(sums, voxels, strict=True):
        values = code.load(voxel, width, lanes)
        for variable, factor in zip(row, factors, strict=True):
            code.set(variable, code.multiply_add(values, factor, code.get(variable)))
