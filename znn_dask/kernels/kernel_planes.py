"""Kernels on their way into a product and back: kept as lines, transformed in their planes there.

The spectra of kernels are many times larger than the kernels, for these have few points. So kernels
are kept transformed along c only. Where a product needs them, they are transformed along b, one
frequency fc after the other: what this yields stays in the second-level cache until `depth` has
multiplied it. Kernel gradients go the same way back::

    lines   (fc, depth, b, 2, row, column)
    planes  (fb, depth, 2, row, column)      of one fc

Rows are the channels that a product sums over, columns those that it yields. Rows of planes are
filled up to whole cache lines by numbers that nobody looks at.
"""

import math
from functools import cache
from typing import Any

import numpy as np

from znn_dask.kernels.codelets import ALL, complex_to_complex, half_to_real, real_to_half
from znn_dask.kernels.formulas import Formula
from znn_dask.kernels.geometry import AxisTiles
from znn_dask.kernels.jit import Call, Compiled
from znn_dask.kernels.memory import ALIGNMENT, empty
from znn_dask.kernels.planes import choose
from znn_dask.kernels.values import Integer

Axes = tuple[AxisTiles, AxisTiles, AxisTiles]  # depth, b, c

ARGUMENTS = (
    *("kernel_depth", "kernel_b", "kernel_columns", "along_b", "real_along_b"),
    *("S", "S_fc", "S_line", "S_part", "S_row", "S_column", "S_rows", "S_columns"),
    *("F", "F_f", "F_depth", "F_part", "F_row"),
)
_LINES = (
    *("codelet", "lines", "rows", "columns"),
    *("source", "source_line", "source_row", "source_step", "source_part"),
    *("target", "target_line", "target_row", "target_step", "target_part"),
)


def padded(columns: int, dtype: np.dtype[Any]) -> int:
    """`columns` rounded up to whole cache lines."""
    line = ALIGNMENT // dtype.itemsize
    return -(-columns // line) * line


def odd_lines(size: int) -> int:
    """`size` bytes rounded up to an odd number of cache lines: what lies so far apart does not
    collide in the caches."""
    return (-(-size // ALIGNMENT) | 1) * ALIGNMENT


def allocate(axes: Axes, rows: int, columns: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Room for lines (fc, depth, b, 2, row, column) of kernels."""
    depth, b, c = axes
    one = odd_lines(rows * columns * dtype.itemsize) // dtype.itemsize
    apart = empty((c.edge // 2 + 1, depth.kernel, b.kernel, 2, one), dtype)
    return apart[..., : rows * columns].reshape(*apart.shape[:4], rows, columns)


def scratch_bytes(axes: Axes, rows: int, columns: int, dtype: np.dtype[Any]) -> int:
    """Of planes and factors of kernels, while a product is made."""
    depth, b, _ = axes
    part = odd_lines(rows * padded(columns, dtype) * dtype.itemsize)
    return 2 * part * (b.edge * depth.kernel + depth.edge)


def to_lines(axes: Axes, kernels: np.ndarray, lines: np.ndarray) -> None:
    """Transform kernels (depth, b, c, row, column) along c into `lines`, divided by the number of
    points of a tile: nowhere else is anything divided."""
    points = empty(kernels.shape, lines.dtype)
    np.multiply(kernels, _scale(axes, lines.dtype), out=points)
    strides = points.strides, lines.strides
    call = _prepared_lines(axes[2], lines.dtype, points.shape, *strides, back=False)
    call(points.ctypes.data, lines.ctypes.data)


def from_lines(axes: Axes, lines: np.ndarray, kernels: np.ndarray) -> None:
    """The way back of `to_lines`, into gradients of kernels."""
    points = empty(kernels.shape, lines.dtype)
    strides = points.strides, lines.strides
    call = _prepared_lines(axes[2], lines.dtype, points.shape, *strides, back=True)
    call(lines.ctypes.data, points.ctypes.data)
    np.multiply(points, _scale(axes, lines.dtype), out=kernels)


def _scale(axes: Axes, dtype: np.dtype[Any]) -> Any:
    return dtype.type(1 / math.prod(axis.edge for axis in axes))


@cache
def _prepared_lines(
    c: AxisTiles,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    points: tuple[int, ...],
    lines: tuple[int, ...],
    *,
    back: bool,
) -> Call:
    """Call for kernels of this shape, strides of their points and strides of their lines."""
    if back:
        codelet = half_to_real(c.edge, (0, c.kernel), False, dtype, True)
    else:
        codelet = real_to_half(c.edge, (0, c.kernel), dtype, True)
    arguments = {
        "codelet": codelet.address,
        "lines": shape[0] * shape[1],
        "rows": shape[3],
        "columns": shape[4],
    }
    of_points = (points[1], points[3], points[2], 0)
    of_lines = (lines[2], lines[4], lines[0], lines[3])
    both = (of_lines, of_points) if back else (of_points, of_lines)
    for name, steps in zip(("source", "target"), both, strict=True):
        names = (f"{name}_{what}" for what in ("line", "row", "step", "part"))
        arguments |= zip(names, steps, strict=True)
    return _all_lines(dtype).bind("source", "target", **arguments)


@cache
def _all_lines(dtype: np.dtype[Any]) -> Compiled:
    f = Formula("lines_of_kernels", _LINES, dtype)
    with f.loop(f["lines"]) as line, f.loop(f["rows"]) as row:
        source, target = (
            f[name] + f[f"{name}_line"] * line + f[f"{name}_row"] * row
            for name in ("source", "target")
        )
        f.call(
            f["codelet"],
            *(source, f["source_step"], f["source_part"], ALL, 0),
            *(target, f["target_step"], f["target_part"], ALL, f["columns"]),
        )
    return f.compile()


def arguments(
    axes: Axes,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *,
    back: bool,
) -> tuple[dict[str, int], int]:
    """Arguments of `forward`, or `back` of `inverse`, but for the addresses of lines "S" and planes
    "F", and the bytes of the planes. For lines of this shape and these strides, of which the last
    two axes may be swapped."""
    depth, b, _ = axes
    rows, columns = shape[4:]
    width = padded(columns, dtype) * dtype.itemsize
    part = odd_lines(rows * width)
    transposed = strides[5] != dtype.itemsize
    whole = strides[4] == width and not transposed
    if back:
        along_b = complex_to_complex(b.edge, 1, (0, b.edge), (0, b.kernel), False, dtype, True)
        real_along_b = half_to_real(b.edge, (0, b.kernel), False, dtype, True)
    else:
        along_b = complex_to_complex(
            b.edge, -1, (0, b.kernel), (0, b.edge), False, dtype, True, transposed
        )
        real_along_b = real_to_half(b.edge, (0, b.kernel), dtype, True, transposed)
    given = {
        "kernel_depth": depth.kernel,
        "kernel_b": b.kernel,
        "kernel_columns": rows * width // dtype.itemsize,
        "along_b": along_b.address,
        "real_along_b": real_along_b.address,
        "S_rows": 1 if whole else rows,
        "S_columns": rows * width // dtype.itemsize if whole else columns,
        "F_f": depth.kernel * 2 * part,
        "F_depth": 2 * part,
        "F_part": part,
        "F_row": width,
    }
    steps = (("S_fc", 0), ("S_line", 2), ("S_part", 3), ("S_row", 4), ("S_column", 5))
    given |= {name: strides[axis] for name, axis in steps}
    return given, b.edge * depth.kernel * 2 * part


def forward(f: Formula, fc: Integer) -> None:
    """Lines to the planes of `fc`."""
    codelet = choose(f, fc, f["real_along_b"], f["along_b"])
    with f.loop(f["kernel_depth"]) as d, f.loop(f["S_rows"]) as row:
        f.call(
            codelet,
            *(*_lines(f, fc, d, row), f["S_column"]),
            *(*_planes(f, d, row), f["S_columns"]),
        )


def inverse(f: Formula, fc: Integer) -> None:
    """Planes of `fc` back to lines."""
    codelet = choose(f, fc, f["real_along_b"], f["along_b"])
    with f.loop(f["kernel_depth"]) as d, f.loop(f["S_rows"]) as row:
        f.call(codelet, *_planes(f, d, row), 0, *_lines(f, fc, d, row), f["S_columns"])


def _lines(f: Formula, fc: Integer, d: Integer, row: Integer) -> tuple[Integer | int, ...]:
    start = f["S"] + f["S_fc"] * fc + f["S_line"] * f["kernel_b"] * d + f["S_row"] * row
    return (start, f["S_line"], f["S_part"], ALL)


def _planes(f: Formula, d: Integer, row: Integer) -> tuple[Integer | int, ...]:
    return (f["F"] + f["F_depth"] * d + f["F_row"] * row, f["F_f"], f["F_part"], ALL)
