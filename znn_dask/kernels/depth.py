"""Products of half spectra (see `planes`), transformed along depth while they are multiplied.

Frequency by frequency of the plane, half spectra and kernels become factors along depth, their
matrix products per frequency of depth, and planes again. Factors and products stay in the
second-level cache, and tiles that overlap along depth share their planes::

    half spectra of a map (f, depth, 2, tile, channel)    kernels: see `kernel_planes`
    factors (edge, 3, row, term), (edge, 2, term, column) and product (edge, 2, row, column)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

import numpy as np

from znn_dask.kernels import kernel_planes
from znn_dask.kernels.codelets import (
    ALL,
    complex_to_complex,
    complex_to_factor,
    points_below,
    product,
)
from znn_dask.kernels.formulas import Formula
from znn_dask.kernels.jit import Call, Compiled, registers
from znn_dask.kernels.kernel_planes import Axes, odd_lines, padded
from znn_dask.kernels.memory import empty
from znn_dask.kernels.planes import Frequencies, along_b
from znn_dask.kernels.values import Integer

Product = Literal["forward", "input_gradient", "kernel_gradient"]

_TILES_BYTES = 1 << 19  # factors and products of the tiles that are multiplied at once

_MAP = ("", "_f", "_depth", "_part", "_row", "_codelet", "_size", "_columns", "_packed")
_ARGUMENTS = (
    *("tiles", "step", "phases", "dilation", "plane_tiles", "at_once", "edge", "cleared"),
    *("frequencies_b", "frequencies_c", "mirrored", "halved", "kernel_codelet", "kernel_rows"),
    *(f"{name}{what}" for name in ("left", "other") for what in _MAP),
    *(f"{factor}{what}" for factor in "LRP" for what in ("", "_f", "_part", "_row")),
    *("wide", "wide_add", "wides", "narrow", "narrow_add", "narrows"),
    *kernel_planes.ARGUMENTS,
)


def forward(axes: Axes, X: np.ndarray, W: np.ndarray, Y: np.ndarray) -> None:
    """Y = X W: half spectra of inputs (.., C) and outputs (.., K), lines of kernels (.., C, K)."""
    _run("forward", axes, X, W, Y)


def input_gradient(axes: Axes, G: np.ndarray, W: np.ndarray, D: np.ndarray) -> None:
    """D = G W*^T: half spectra of output gradients (.., K), lines of kernels (.., C, K) and half
    spectra of input gradients (.., C), where tiles overlap and are added."""
    _run("input_gradient", axes, G, W.swapaxes(4, 5), D)


def kernel_gradient(axes: Axes, X: np.ndarray, G: np.ndarray, W: np.ndarray) -> None:
    """W = X*^T G summed over tiles: half spectra of inputs (.., C) and output gradients (.., K),
    lines of kernel gradients (.., C, K)."""
    _run("kernel_gradient", axes, X, W, G)


def _run(
    which: Product, axes: Axes, left: np.ndarray, kernels: np.ndarray, other: np.ndarray
) -> None:
    arrays = (left, kernels, other)
    shapes = tuple(shape for array in arrays for shape in (array.shape, array.strides))
    call, at, scratch_bytes = _prepared(which, axes, kernels.dtype, shapes)
    scratch = empty((scratch_bytes,), np.uint8)
    start = scratch.ctypes.data
    call(*(array.ctypes.data for array in arrays), *(start + n for n in at))


@cache
def _prepared(
    which: Product, axes: Axes, dtype: np.dtype[Any], shapes: tuple[tuple[int, ...], ...]
) -> tuple[Call, list[int], int]:
    """(call for arrays of these shapes and strides, where factors, product and planes of kernels
    begin in its scratch, bytes of the scratch)."""
    axis, b, c = axes
    left_shape, left_strides, lines_shape, lines_strides, other_shape, other_strides = shapes
    summed, adding = which == "kernel_gradient", which == "input_gradient"
    n, outputs, points = axis.edge, (axis.kernel - 1, axis.outputs), (0, axis.kernel)
    size = (left_shape if adding else other_shape)[1]  # outputs along depth
    tiles, inside = -(-size // axis.step), size % axis.step == 0
    left = complex_to_factor(n, outputs if adding else (0, n), "left", summed, dtype, inside)
    if summed:
        kernels = complex_to_complex(n, 1, (0, n), points, False, dtype, True)
        other = complex_to_factor(n, outputs, "right", False, dtype, inside)
    else:
        kernels = complex_to_factor(n, points, "right", adding, dtype, True)
        wanted = (0, n) if adding else outputs
        other = complex_to_complex(n, 1, (0, n), wanted, adding, dtype, inside)
    plane_tiles, inner = left_shape[3:]
    kernel_rows, columns = lines_shape[4:]
    # Whole lines of the cache, whatever the registers.
    width = padded(columns, dtype) * dtype.itemsize
    vectors = width // registers().bytes
    along = tiles * axis.phases
    each = 3 * axis.edge * along * (inner * dtype.itemsize + width)
    groups = -(-plane_tiles // max(1, _TILES_BYTES // each))
    at_once = -(-plane_tiles // groups)
    rows = along * at_once
    arguments, planes_bytes = kernel_planes.arguments(
        axes, dtype, lines_shape, lines_strides, back=summed
    )
    arguments |= Frequencies(b.edge, c.edge).arguments()
    arguments |= {
        "tiles": tiles,
        "step": axis.step,
        "phases": axis.phases,
        "dilation": axis.dilation,
        "plane_tiles": plane_tiles,
        "at_once": at_once,
        "edge": axis.edge,
        "cleared": other_shape[1] if adding else 0,
        "kernel_codelet": kernels.address,
        "kernel_rows": kernel_rows,
        "wides": vectors // 2,
        "narrows": vectors % 2,
    }
    for name, registers_of in (("wide", 2), ("narrow", 1)):
        arguments[name] = product(registers_of, False, dtype).address
        arguments[f"{name}_add"] = product(registers_of, True, dtype).address
    for name, codelet, shape, strides, row in (
        ("left", left, left_shape, left_strides, inner * dtype.itemsize),
        ("other", other, other_shape, other_strides, width),
    ):
        packed = row == strides[3] == shape[4] * dtype.itemsize
        arguments |= {
            f"{name}_codelet": codelet.address,
            f"{name}_size": shape[1],
            f"{name}_columns": shape[4],
            f"{name}_packed": int(packed),
        }
        steps = ("f", "depth", "part", "row")
        arguments |= {f"{name}_{s}": step for s, step in zip(steps, strides[:4], strict=True)}
    begin, total = [0], planes_bytes
    for factor, parts, count, row in (
        ("L", 3, rows, inner * dtype.itemsize),
        ("R", 2, rows if summed else inner, width),
        ("P", 2, inner if summed else rows, width),
    ):
        part = odd_lines(count * row)
        arguments |= {f"{factor}_f": parts * part, f"{factor}_part": part, f"{factor}_row": row}
        begin.append(total)
        total += axis.edge * parts * part
    loops = (_kernel_product if summed else _map_product)(dtype)
    return loops.bind("left", "S", "other", "F", *"LRP", **arguments), begin, total


@cache
def _map_product(dtype: np.dtype[Any]) -> Compiled:
    """A map times kernels."""
    f = Formula("map_product", _ARGUMENTS, dtype)
    with f.loop(f["frequencies_c"]) as fc:
        kernel_planes.forward(f, fc)
        first_q, count_b = along_b(f, fc)
        with f.loop(count_b) as fb:
            q = first_q + fb
            f.call(
                f["kernel_codelet"],
                *(f["F"] + f["F_f"] * fb, f["F_depth"], f["F_part"], ALL, 0),
                *(f["R"], f["R_f"], f["R_part"], ALL, f["kernel_columns"]),
            )
            with f.loop(f["cleared"]) as plane:
                f.clear(
                    f["other"] + f["other_f"] * q + f["other_depth"] * plane, f["other_part"] * 2
                )
            with f.loop(f["plane_tiles"], f["at_once"]) as first:
                count = f.smaller(f["plane_tiles"] - first, f["at_once"])
                _to_factor(f, "left", "L", q, first, count)
                rows = f["tiles"] * f["phases"] * count
                _multiply(f, rows, f["kernel_rows"], f["L_row"], f.integer(f.itemsize), None)
                with _lines(f, "other", "P", q, first, count) as (half, within, part, columns):
                    f.call(
                        f["other_codelet"],
                        *(part, f["P_f"], f["P_part"], ALL, 0),
                        *(half, f["other_depth"] * f["dilation"], f["other_part"], within, columns),
                    )
    return f.compile()


@cache
def _kernel_product(dtype: np.dtype[Any]) -> Compiled:
    """Two maps, summed over tiles."""
    f = Formula("kernel_product", _ARGUMENTS, dtype)
    with f.loop(f["frequencies_c"]) as fc:
        first_q, count_b = along_b(f, fc)
        with f.loop(count_b) as fb:
            with f.loop(f["plane_tiles"], f["at_once"]) as first:
                count = f.smaller(f["plane_tiles"] - first, f["at_once"])
                _to_factor(f, "left", "L", first_q + fb, first, count)
                _to_factor(f, "other", "R", first_q + fb, first, count)
                terms = f["tiles"] * f["phases"] * count
                _multiply(f, f["kernel_rows"], terms, f.integer(f.itemsize), f["L_row"], first)
            f.call(
                f["kernel_codelet"],
                *(f["P"], f["P_f"], f["P_part"], ALL, 0),
                *(f["F"] + f["F_f"] * fb, f["F_depth"], f["F_part"], ALL, f["kernel_columns"]),
            )
        kernel_planes.inverse(f, fc)
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
