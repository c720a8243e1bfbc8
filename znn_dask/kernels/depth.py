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
from typing import Any

import numpy as np

from znn_dask.kernels import kernel_planes
from znn_dask.kernels.codelets import (
    ALL,
    Points,
    complex_to_complex,
    complex_to_factor,
    points_below,
    product,
)
from znn_dask.kernels.formulas import Formula
from znn_dask.kernels.geometry import AxisTiles
from znn_dask.kernels.jit import Compiled, registers
from znn_dask.kernels.kernel_planes import Axes, odd_lines, padded
from znn_dask.kernels.memory import empty
from znn_dask.kernels.planes import Frequencies, along_b
from znn_dask.kernels.values import Integer

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
    axis, dtype = axes[0], W.dtype
    n, inside = axis.edge, Y.shape[1] % axis.step == 0
    left = complex_to_factor(n, (0, n), "left", False, dtype, inside), X
    kernels = complex_to_factor(n, (0, axis.kernel), "right", False, dtype, True), W
    back = complex_to_complex(n, 1, (0, n), _outputs(axis), False, dtype, inside), Y
    _run(axes, -(-Y.shape[1] // axis.step), left, kernels, back)


def input_gradient(axes: Axes, G: np.ndarray, W: np.ndarray, D: np.ndarray) -> None:
    """D = G W*: half spectra of output gradients (.., K), lines of kernels (.., C, K) and half
    spectra of input gradients (.., C), where tiles overlap and are added."""
    axis, dtype = axes[0], W.dtype
    n, inside = axis.edge, G.shape[1] % axis.step == 0
    left = complex_to_factor(n, _outputs(axis), "left", False, dtype, inside), G
    kernels = complex_to_factor(n, (0, axis.kernel), "right", True, dtype, True), W.swapaxes(4, 5)
    back = complex_to_complex(n, 1, (0, n), (0, n), True, dtype, inside), D
    _run(axes, -(-G.shape[1] // axis.step), left, kernels, back, cleared=D.shape[1])


def kernel_gradient(axes: Axes, X: np.ndarray, G: np.ndarray, W: np.ndarray) -> None:
    """W = X*^T G summed over tiles: half spectra of inputs (.., C) and output gradients (.., K),
    lines of kernel gradients (.., C, K)."""
    axis, dtype = axes[0], W.dtype
    n, inside = axis.edge, G.shape[1] % axis.step == 0
    left = complex_to_factor(n, (0, n), "left", True, dtype, inside), X
    kernels = complex_to_complex(n, 1, (0, n), (0, axis.kernel), False, dtype, True), W
    right = complex_to_factor(n, _outputs(axis), "right", False, dtype, inside), G
    _run(axes, -(-G.shape[1] // axis.step), left, kernels, right, summed=True)


def _outputs(axis: AxisTiles) -> Points:
    """Points of a tile that are its outputs."""
    return (axis.kernel - 1, axis.outputs)


def _run(
    axes: Axes,
    tiles: int,
    left: tuple[Compiled, np.ndarray],
    kernels: tuple[Compiled, np.ndarray],
    other: tuple[Compiled, np.ndarray],
    *,
    summed: bool = False,
    cleared: int = 0,
) -> None:
    """Run the loops over `tiles` tiles along depth: the product of each map with kernels, or the
    kernels `summed` over them, by (how it is transformed along depth, array) of each. The first
    `cleared` planes of `other` are set to zero before."""
    axis, b, c = axes
    dtype = kernels[1].dtype
    plane_tiles, inner = left[1].shape[3:]
    kernel_rows, columns = kernels[1].shape[4:]
    # Whole lines of the cache, whatever the registers.
    width = padded(columns, dtype) * dtype.itemsize
    vectors = width // registers().bytes
    along = tiles * axis.phases
    each = 3 * axis.edge * along * (inner * dtype.itemsize + width)
    groups = -(-plane_tiles // max(1, _TILES_BYTES // each))
    at_once = -(-plane_tiles // groups)
    rows = along * at_once
    arguments = {
        "tiles": tiles,
        "step": axis.step,
        "phases": axis.phases,
        "dilation": axis.dilation,
        "plane_tiles": plane_tiles,
        "at_once": at_once,
        "edge": axis.edge,
        "cleared": cleared,
        "kernel_codelet": kernels[0].address,
        "kernel_rows": kernel_rows,
        "wides": vectors // 2,
        "narrows": vectors % 2,
    }
    arguments |= Frequencies(b.edge, c.edge).arguments()
    for name, size in (("wide", 2), ("narrow", 1)):
        arguments[name] = product(size, False, dtype).address
        arguments[f"{name}_add"] = product(size, True, dtype).address
    for name, (codelet, half) in (("left", left), ("other", other)):
        arguments |= {
            name: half.ctypes.data,
            f"{name}_codelet": codelet.address,
            f"{name}_size": half.shape[1],
            f"{name}_columns": half.shape[4],
            f"{name}_packed": int(
                half.strides[3] == half.shape[4] * dtype.itemsize
                and (name == "left" or half.strides[3] == width)
            ),
        }
        steps = ("f", "depth", "part", "row")
        arguments |= {f"{name}_{s}": n for s, n in zip(steps, half.strides[:4], strict=True)}
    planes_of_kernels, planes = kernel_planes.bind(axes, kernels[1], width, back=summed)
    arguments |= planes_of_kernels
    scratch = [planes]
    for factor, parts, count, size in (
        ("L", 3, rows, inner * dtype.itemsize),
        ("R", 2, rows if summed else inner, width),
        ("P", 2, inner if summed else rows, width),
    ):
        part = odd_lines(count * size)
        memory = empty((axis.edge, parts * part), np.uint8)
        arguments |= {f"{factor}_f": parts * part, f"{factor}_part": part}
        arguments |= {factor: memory.ctypes.data, f"{factor}_row": size}
        scratch.append(memory)
    (_kernel_product if summed else _map_product)(dtype)(**arguments)


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
