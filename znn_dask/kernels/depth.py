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
from typing import Any

import numpy as np

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
from znn_dask.kernels.memory import ALIGNMENT, empty
from znn_dask.kernels.values import Integer

Operand = tuple[Compiled, np.ndarray]  # how it is transformed along depth, half spectrum

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
    n, dtype = axis.edge, Y.dtype
    left = complex_to_factor(n, (0, n), "left", False, False, dtype), X
    right = complex_to_factor(n, (0, axis.kernel), "right", False, False, dtype), W
    back = complex_to_complex(n, 1, (0, n), _outputs(axis), False, dtype), Y
    _run(axis, -(-Y.shape[1] // axis.step), left, right, back)


def input_gradient(axis: AxisTiles, G: np.ndarray, W: np.ndarray, D: np.ndarray) -> None:
    """D = G W*^T: half spectra of output gradients (.., K), kernels (.., C, K), and input gradients
    (.., C), where tiles overlap and are added."""
    n, dtype = axis.edge, D.dtype
    left = complex_to_factor(n, _outputs(axis), "left", False, False, dtype), G
    right = complex_to_factor(n, (0, axis.kernel), "right", True, True, dtype), W.swapaxes(3, 4)
    back = complex_to_complex(n, 1, (0, n), (0, n), True, dtype), D
    _run(axis, -(-G.shape[1] // axis.step), left, right, back, cleared=D.shape[1])


def kernel_gradient(axis: AxisTiles, X: np.ndarray, G: np.ndarray, W: np.ndarray) -> None:
    """W = X*^T G summed over tiles: half spectra of inputs (.., C), output gradients (.., K) and
    kernel gradients (.., C, K)."""
    n, dtype = axis.edge, W.dtype
    left = complex_to_factor(n, (0, n), "left", True, False, dtype), X
    right = complex_to_factor(n, _outputs(axis), "right", False, False, dtype), G
    back = complex_to_complex(n, 1, (0, n), (0, axis.kernel), False, dtype), W
    _run(axis, -(-G.shape[1] // axis.step), left, right, back, summed=True)


def _outputs(axis: AxisTiles) -> Points:
    """Points of a tile that are its outputs."""
    return (axis.kernel - 1, axis.outputs)


def _run(
    axis: AxisTiles,
    tiles: int,
    left: Operand,
    right: Operand,
    back: Operand,
    *,
    summed: bool = False,
    cleared: int = 0,
) -> None:
    """Run the loops over `tiles` tiles along depth: the product of each, or `summed` over them.
    The first `cleared` planes of `back` are set to zero before."""
    dtype = back[1].dtype
    vectors = -(-right[1].shape[4] * dtype.itemsize // registers().bytes)
    padded = vectors * registers().bytes  # rows of right factors and products: whole registers
    plane_tiles, inner = left[1].shape[3:]
    along = tiles * axis.phases
    # Sums over tiles are cut at `at_once`: it counts lines of the cache, whatever the registers.
    lines = -(-padded // ALIGNMENT) * ALIGNMENT
    each = 3 * axis.edge * along * (inner * dtype.itemsize + lines)
    groups = -(-plane_tiles // max(1, _TILES_BYTES // each))
    at_once = -(-plane_tiles // groups)
    rows = along * at_once
    arguments = {
        "frequencies": len(left[1]),
        "edge": axis.edge,
        "tiles": tiles,
        "step": axis.step,
        "phases": axis.phases,
        "dilation": axis.dilation,
        "plane_tiles": plane_tiles,
        "at_once": at_once,
        "wides": vectors // 2,
        "narrows": vectors % 2,
        "cleared": cleared,
    }
    for name, size in (("wide", 2), ("narrow", 1)):
        arguments[name] = product(size, False, dtype).address
        arguments[f"{name}_add"] = product(size, True, dtype).address
    scratch = []
    for name, factor, (codelet, half), shape in (
        ("left", "L", left, (3, rows, inner * dtype.itemsize)),
        ("right", "R", right, (3, rows if summed else inner, padded)),
        ("back", "P", back, (2, inner if summed else rows, padded)),
    ):
        packed = shape[2] == half.strides[3] == half.shape[4] * dtype.itemsize
        arguments |= {
            name: half.ctypes.data,
            f"{name}_codelet": codelet.address,
            f"{name}_size": half.shape[1],
            f"{name}_rows": half.shape[3],
            f"{name}_columns": half.shape[4],
            f"{name}_packed": int(packed),
        }
        steps = ("f", "depth", "part", "row", "column")
        arguments |= {f"{name}_{s}": n for s, n in zip(steps, half.strides, strict=True)}
        part = odd_lines(shape[1] * shape[2])
        memory = empty((axis.edge, shape[0] * part), np.uint8)
        arguments |= {f"{factor}_f": shape[0] * part, f"{factor}_part": part}
        arguments |= {factor: memory.ctypes.data, f"{factor}_row": shape[2]}
        scratch.append(memory)
    (_kernel_product if summed else _map_product)(dtype)(**arguments)


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
