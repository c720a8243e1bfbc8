"""Products of half spectra (see `planes`), transformed along depth while they are multiplied.

Frequency by frequency of the plane, two half spectra become factors along depth, their matrix
products per frequency of depth, and planes again. Factors and products stay in the second-level
cache, tiles that overlap along depth share their planes, and kernels are kept in as many planes as
they have points::

    half spectra of a map (f, depth, 2, tile, channel)    of kernels (f, point, 2, in, out)
    factors (edge, 3, row, term), (edge, 3, term, column) and product (edge, 2, row, column)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import numpy as np

from znn_dask.kernels.codelets import (
    ALL,
    complex_to_complex,
    complex_to_factor,
    points_below,
    product,
)
from znn_dask.kernels.formulas import Formula
from znn_dask.kernels.geometry import AxisTiles
from znn_dask.kernels.jit import Call, Compiled, registers
from znn_dask.kernels.memory import ALIGNMENT, empty
from znn_dask.kernels.values import Integer

Product = Literal["forward", "input_gradient", "kernel_gradient"]

_TILES_BYTES = 1 << 19  # factors and products of the tiles that are multiplied at once

_HALVES = ("left", "right", "back")
_FACTORS = ("L", "R", "P")
_ARGUMENTS = (
    *("frequencies", "edge", "tiles", "step", "phases", "dilation", "plane_tiles", "at_once"),
    *(f"{h}{what}" for h in _HALVES for what in ("", "_f", "_depth", "_part", "_row", "_column")),
    *(f"{h}_{what}" for h in _HALVES for what in ("codelet", "size", "rows", "columns", "packed")),
    *(f"{s}{what}" for s in _FACTORS for what in ("", "_f", "_part", "_row")),
    *("wide", "wide_add", "wides", "narrow", "narrow_add", "narrows", "cleared"),
)


def forward(axis: AxisTiles, X: np.ndarray, W: np.ndarray, Y: np.ndarray) -> None:
    """Y = X W: half spectra of inputs (.., C), kernels (.., C, K) and outputs (.., K)."""
    _run("forward", axis, X, W, Y)


def input_gradient(axis: AxisTiles, G: np.ndarray, W: np.ndarray, D: np.ndarray) -> None:
    """D = G W*^T: half spectra of output gradients (.., K), kernels (.., C, K), and input gradients
    (.., C), where tiles overlap and are added."""
    _run("input_gradient", axis, G, W.swapaxes(3, 4), D)


def kernel_gradient(axis: AxisTiles, X: np.ndarray, G: np.ndarray, W: np.ndarray) -> None:
    """W = X*^T G summed over tiles: half spectra of inputs (.., C), output gradients (.., K) and
    kernel gradients (.., C, K)."""
    _run("kernel_gradient", axis, X, G, W)


def _run(
    which: Product, axis: AxisTiles, left: np.ndarray, right: np.ndarray, back: np.ndarray
) -> None:
    shapes = (left.shape, left.strides, right.shape, right.strides, back.shape, back.strides)
    call, at, scratch_bytes = _prepared(which, axis, back.dtype, shapes)
    scratch = empty((scratch_bytes,), np.uint8)
    start = scratch.ctypes.data
    call(left.ctypes.data, right.ctypes.data, back.ctypes.data, *(start + n for n in at))


@cache
def _prepared(
    which: Product, axis: AxisTiles, dtype: np.dtype[Any], shapes: tuple[tuple[int, ...], ...]
) -> tuple[Call, list[int], int]:
    """(call for half spectra of these shapes and strides, where its factors and product begin in
    its scratch, bytes of the scratch)."""
    n, outputs, points = axis.edge, (axis.kernel - 1, axis.outputs), (0, axis.kernel)
    left_shape, left_strides, right_shape, right_strides, back_shape, back_strides = shapes
    summed, adding = which == "kernel_gradient", which == "input_gradient"
    left = complex_to_factor(n, outputs if adding else (0, n), "left", summed, False, dtype)
    right = complex_to_factor(n, outputs if summed else points, "right", adding, adding, dtype)
    wanted, map_shape = {
        "forward": (outputs, back_shape),
        "input_gradient": ((0, n), left_shape),
        "kernel_gradient": (points, right_shape),
    }[which]
    back = complex_to_complex(n, 1, (0, n), wanted, adding, dtype)
    tiles = -(-map_shape[1] // axis.step)
    vectors = -(-right_shape[4] * dtype.itemsize // registers().bytes)
    padded = vectors * registers().bytes  # rows of right factors and products: whole registers
    plane_tiles, inner = left_shape[3:]
    along = tiles * axis.phases
    # Sums over tiles are cut at `at_once`: it counts lines of the cache, whatever the registers.
    lines = -(-padded // ALIGNMENT) * ALIGNMENT
    each = 3 * axis.edge * along * (inner * dtype.itemsize + lines)
    groups = -(-plane_tiles // max(1, _TILES_BYTES // each))
    at_once = -(-plane_tiles // groups)
    rows = along * at_once
    arguments = {
        "frequencies": left_shape[0],
        "edge": axis.edge,
        "tiles": tiles,
        "step": axis.step,
        "phases": axis.phases,
        "dilation": axis.dilation,
        "plane_tiles": plane_tiles,
        "at_once": at_once,
        "wides": vectors // 2,
        "narrows": vectors % 2,
        "cleared": back_shape[1] if adding else 0,
    }
    for name, size in (("wide", 2), ("narrow", 1)):
        arguments[name] = product(size, False, dtype).address
        arguments[f"{name}_add"] = product(size, True, dtype).address
    begin, total = [], 0
    for name, factor, codelet, half_shape, half_strides, shape in (
        ("left", "L", left, left_shape, left_strides, (3, rows, inner * dtype.itemsize)),
        ("right", "R", right, right_shape, right_strides, (3, rows if summed else inner, padded)),
        ("back", "P", back, back_shape, back_strides, (2, inner if summed else rows, padded)),
    ):
        packed = shape[2] == half_strides[3] == half_shape[4] * dtype.itemsize
        arguments |= {
            f"{name}_codelet": codelet.address,
            f"{name}_size": half_shape[1],
            f"{name}_rows": half_shape[3],
            f"{name}_columns": half_shape[4],
            f"{name}_packed": int(packed),
        }
        steps = ("f", "depth", "part", "row", "column")
        arguments |= {f"{name}_{s}": n for s, n in zip(steps, half_strides, strict=True)}
        part = odd_lines(shape[1] * shape[2])
        arguments |= {f"{factor}_f": shape[0] * part, f"{factor}_part": part}
        arguments[f"{factor}_row"] = shape[2]
        begin.append(total)
        total += axis.edge * shape[0] * part
    loops = (_kernel_product if summed else _map_product)(dtype)
    return loops.bind(*_HALVES, *_FACTORS, **arguments), begin, total


def odd_lines(size: int) -> int:
    """`size` bytes rounded up to an odd number of cache lines: what lies so far apart does not
    collide in the caches."""
    return (-(-size // ALIGNMENT) | 1) * ALIGNMENT


@cache
def _map_product(dtype: np.dtype[Any]) -> Compiled:
    """A map times kernels."""
    f = Formula("map_product", _ARGUMENTS, dtype)
    with f.loop(f["frequencies"]) as q:
        right = f["right"] + f["right_f"] * q
        at_once = f.select(f["right_packed"], 1, f.integer(1), f["right_rows"])
        with f.loop(f["right_rows"], at_once) as term:
            f.call(
                f["right_codelet"],
                *(right + f["right_row"] * term, f["right_depth"], f["right_part"], ALL),
                f["right_column"],
                *(f["R"] + f["R_row"] * term, f["R_f"], f["R_part"], ALL),
                f["right_columns"] * at_once,
            )
        with f.loop(f["cleared"]) as plane:
            f.clear(f["back"] + f["back_f"] * q + f["back_depth"] * plane, f["back_part"] * 2)
        with f.loop(f["plane_tiles"], f["at_once"]) as first:
            count = f.smaller(f["plane_tiles"] - first, f["at_once"])
            _to_factor(f, "left", "L", q, first, count)
            rows = f["tiles"] * f["phases"] * count
            _multiply(f, rows, f["right_rows"], f["L_row"], f.integer(f.itemsize), None)
            with _lines(f, "back", "P", q, first, count) as (half, within, product, columns):
                f.call(
                    f["back_codelet"],
                    *(product, f["P_f"], f["P_part"], ALL, 0),
                    *(half, f["back_depth"] * f["dilation"], f["back_part"], within, columns),
                )
    return f.compile()


@cache
def _kernel_product(dtype: np.dtype[Any]) -> Compiled:
    """Two maps, summed over tiles."""
    f = Formula("kernel_product", _ARGUMENTS, dtype)
    with f.loop(f["frequencies"]) as q:
        with f.loop(f["plane_tiles"], f["at_once"]) as first:
            count = f.smaller(f["plane_tiles"] - first, f["at_once"])
            _to_factor(f, "left", "L", q, first, count)
            _to_factor(f, "right", "R", q, first, count)
            terms = f["tiles"] * f["phases"] * count
            _multiply(f, f["back_rows"], terms, f.integer(f.itemsize), f["L_row"], first)
        back = f["back"] + f["back_f"] * q
        with f.loop(f["back_rows"]) as row:
            f.call(
                f["back_codelet"],
                *(f["P"] + f["P_row"] * row, f["P_f"], f["P_part"], ALL, 0),
                *(back + f["back_row"] * row, f["back_depth"], f["back_part"], ALL),
                f["back_columns"],
            )
    return f.compile()


def _to_factor(
    f: Formula, name: str, factor: str, q: Integer, first: Integer, count: Integer
) -> None:
    """Transform `count` tiles of the plane, at its frequency q, along depth."""
    with _lines(f, name, factor, q, first, count) as (half, within, target, columns):
        f.call(
            f[f"{name}_codelet"],
            *(half, f[f"{name}_depth"] * f["dilation"], f[f"{name}_part"], within, 0),
            *(target, f[f"{factor}_f"], f[f"{factor}_part"], ALL, columns),
        )


@contextmanager
def _lines(
    f: Formula, name: str, factor: str, q: Integer, first: Integer, count: Integer
) -> Iterator[tuple[Integer, ...]]:
    """Loops over the lines along depth of `count` tiles of the plane, all of them at once where
    their rows are packed: (in the half spectrum, points within the map, in the factor, columns)."""
    at_once = f.select(f[f"{name}_packed"], 1, f.integer(1), count)
    with (
        f.loop(f["tiles"]) as tile,
        f.loop(f["phases"]) as phase,
        f.loop(count, at_once) as plane_tile,
    ):
        start = tile * f["step"] + phase
        row = (tile * f["phases"] + phase) * count + plane_tile
        half = f[name] + f[f"{name}_f"] * q + f[f"{name}_depth"] * start
        yield (
            half + f[f"{name}_row"] * (first + plane_tile),
            points_below(f[f"{name}_size"], start, f["dilation"]),
            f[factor] + f[f"{factor}_row"] * row,
            f[f"{name}_columns"] * at_once,
        )


def _multiply(
    f: Formula, rows: Integer, terms: Integer, row: Integer, term: Integer, first: Integer | None
) -> None:
    """P = L R at every frequency along depth, or P += L R unless `first` is 0."""
    width = registers().bytes
    with f.loop(f["edge"]) as k:
        for name, start, size in (("wide", f.integer(0), 2), ("narrow", f["wides"] * 2, 1)):
            codelet = f[name]
            if first is not None:
                codelet = f.select(first, 1, codelet, f[f"{name}_add"])
            with f.loop(f[f"{name}s"]) as block:
                column = (start + block * size) * width
                f.call(
                    codelet,
                    *(f["L"] + f["L_f"] * k, f["L_part"], row, term),
                    *(f["R"] + f["R_f"] * k + column, f["R_part"], f["R_row"]),
                    *(f["P"] + f["P_f"] * k + column, f["P_part"], f["P_row"], terms, rows),
                )
