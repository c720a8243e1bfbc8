"""Transforms of kernels in their planes, made where a product needs them and never stored.

Kernels have few points and their spectra many, so kernels are read again for every frequency fc
along c, transformed along c by its definition, and along b by a codelet. What this yields stays in
the second-level cache until `depth` has multiplied it. Kernel gradients go the same way back::

    packed kernels (depth, b, c, row, column)        real points
    lines          (depth, b, 2, row, column)        of one fc
    planes         (fb, depth, 2, row, column)       of one fc

Rows are the channels that a product sums over, columns those it yields, cut into blocks of whole
cache lines that the second-level cache holds: see `column_blocks`.
"""

import math
from functools import cache
from typing import Any

import numpy as np

from znn_dask.kernels.codelets import (
    ALL,
    complex_to_complex,
    frequency_to_points,
    half_to_real,
    points_to_frequency,
)
from znn_dask.kernels.dft import root
from znn_dask.kernels.formulas import Formula
from znn_dask.kernels.geometry import AxisTiles
from znn_dask.kernels.memory import ALIGNMENT, empty, zeros
from znn_dask.kernels.planes import choose
from znn_dask.kernels.values import Integer

Axes = tuple[AxisTiles, AxisTiles, AxisTiles]  # depth, b, c

NEAR_BYTES = 1 << 26
"""What a block of columns keeps in the second-level cache, where more than a cache line fits."""

ARGUMENTS = (
    *("kernels", "kernels_line", "kernels_tap", "kernel_depth", "kernel_b", "kernel_columns"),
    *("turns", "turns_f", "along_c", "along_b", "real_along_b"),
    *("S", "S_line", "S_part", "F", "F_f", "F_depth", "F_part"),
)


def column_blocks(axes: Axes, rows: int, columns: int, dtype: np.dtype[Any]) -> tuple[slice, ...]:
    """Columns cut into blocks, all but the last of whole cache lines, so narrow that what a product
    keeps of `rows` times them fits into NEAR_BYTES."""
    depth, b, c = axes
    numbers = depth.kernel * (b.kernel * c.kernel + 2 * b.kernel + 2 * b.edge) + 3 * depth.edge
    line = ALIGNMENT // dtype.itemsize
    lines = -(-columns // line)
    most = max(1, NEAR_BYTES // (rows * numbers * ALIGNMENT))
    width = -(-lines // -(-lines // most)) * line
    return tuple(slice(c, min(c + width, columns)) for c in range(0, columns, width))


def padded(columns: int, dtype: np.dtype[Any]) -> int:
    """`columns` rounded up to whole cache lines."""
    line = ALIGNMENT // dtype.itemsize
    return -(-columns // line) * line


def bind(
    axes: Axes, kernels: np.ndarray, *, back: bool
) -> tuple[dict[str, int], np.ndarray, np.ndarray]:
    """Arguments of `forward` for packed kernels, or `back` of `inverse`, which adds to them, and
    the memory they work in. This is where transforms are divided by the number of points."""
    (_, b, c), dtype = axes, kernels.dtype
    size_depth, size_b, size_c, rows, columns = kernels.shape
    part = odd_lines(rows * columns * dtype.itemsize)
    # Zeros: imaginary parts that nobody sets are multiplied by zero.
    lines = zeros((size_depth * size_b, 2 * part), np.uint8)
    planes = empty((b.edge, size_depth * 2 * part), np.uint8)
    turns = _turns(c.edge, size_c, math.prod(axis.edge for axis in axes), back, dtype)
    if back:
        along_c = frequency_to_points(size_c, dtype)
        along_b = complex_to_complex(b.edge, 1, (0, b.edge), (0, size_b), False, dtype)
        real_along_b = half_to_real(b.edge, (0, size_b), False, dtype)
    else:
        along_c = points_to_frequency(size_c, dtype)
        along_b = complex_to_complex(b.edge, -1, (0, size_b), (0, b.edge), False, dtype)
        real_along_b = along_b
    arguments = {
        "kernels": kernels.ctypes.data,
        "kernels_line": kernels.strides[1],
        "kernels_tap": kernels.strides[2],
        "kernel_depth": size_depth,
        "kernel_b": size_b,
        "kernel_columns": rows * columns,
        "turns": turns.ctypes.data,
        "turns_f": turns.strides[0],
        "along_c": along_c.address,
        "along_b": along_b.address,
        "real_along_b": real_along_b.address,
        "S": lines.ctypes.data,
        "S_line": 2 * part,
        "S_part": part,
        "F": planes.ctypes.data,
        "F_f": size_depth * 2 * part,
        "F_depth": 2 * part,
        "F_part": part,
    }
    return arguments, lines, planes


def forward(f: Formula, fc: Integer) -> None:
    """Kernels to the planes of `fc`."""
    with f.loop(f["kernel_depth"] * f["kernel_b"]) as line:
        f.call(
            f["along_c"],
            *(f["kernels"] + f["kernels_line"] * line, f["kernels_tap"]),
            *(f["S"] + f["S_line"] * line, f["S_part"]),
            *(f["turns"] + f["turns_f"] * fc, f["kernel_columns"]),
        )
    with f.loop(f["kernel_depth"]) as d:
        f.call(
            f["along_b"],
            *(f["S"] + f["S_line"] * f["kernel_b"] * d, f["S_line"], f["S_part"], ALL),
            *(f["F"] + f["F_depth"] * d, f["F_f"], f["F_part"], ALL, f["kernel_columns"]),
        )


def inverse(f: Formula, fc: Integer) -> None:
    """Add what the planes of `fc` are of kernels to them."""
    with f.loop(f["kernel_depth"]) as d:
        f.call(
            choose(f, fc, f["real_along_b"], f["along_b"]),
            *(f["F"] + f["F_depth"] * d, f["F_f"], f["F_part"], ALL),
            *(f["S"] + f["S_line"] * f["kernel_b"] * d, f["S_line"], f["S_part"], ALL),
            f["kernel_columns"],
        )
    with f.loop(f["kernel_depth"] * f["kernel_b"]) as line:
        f.call(
            f["along_c"],
            *(f["S"] + f["S_line"] * line, f["S_part"]),
            *(f["kernels"] + f["kernels_line"] * line, f["kernels_tap"]),
            *(f["turns"] + f["turns_f"] * fc, f["kernel_columns"]),
        )


def odd_lines(size: int) -> int:
    """`size` bytes rounded up to an odd number of cache lines: what lies so far apart does not
    collide in the caches."""
    return (-(-size // ALIGNMENT) | 1) * ALIGNMENT


@cache
def _turns(edge: int, size: int, points: int, back: bool, dtype: np.dtype[Any]) -> np.ndarray:
    """exp(-2 pi i fc j / edge) / points for every fc and point j of a kernel. On the way back a
    frequency counts twice where its mirror image is left out."""
    turns = empty((edge // 2 + 1, size, 2), dtype)
    for fc in range(edge // 2 + 1):
        counts = 2 if back and fc > 0 and 2 * fc < edge else 1
        for j in range(size):
            turns[fc, j] = np.array(root(-fc * j, edge)) * (counts / points)
    turns.setflags(write=False)
    return turns
