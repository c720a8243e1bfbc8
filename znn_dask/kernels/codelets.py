"""Compiled transforms of one line of points, each point a row of channels, and matrix products.

Every codelet takes addresses and steps in bytes::

    codelet(source, source_step, source_part, sources,
            target, target_step, target_part, targets, columns)

Point j of the source is the row of `columns` numbers at source + j * source_step. Points from
`sources` on are zero and points of the target from `targets` on are dropped: they lie beyond the
map. A complex point has its imaginary parts at source_part after its real parts.

A point range (first, count) of n says which points of a line there are; the others are known to be
zero, or not wanted.
"""

from functools import cache
from typing import Any, Literal

import numpy as np

from znn_dask.kernels.dft import Complex, dft, inverse_real_dft, real_dft
from znn_dask.kernels.formulas import Formula
from znn_dask.kernels.jit import Compiled
from znn_dask.kernels.values import Integer, Vector

Points = tuple[int, int]
ALL = 1 << 40
"""As a count of points: none lies beyond the map."""

Factor = Literal["left", "right"]
_ARGUMENTS = (
    *("source", "source_step", "source_part", "sources"),
    *("target", "target_step", "target_part", "targets", "columns"),
)
_PRODUCT = (
    *("left", "left_part", "left_row", "left_term", "right", "right_part", "right_term"),
    *("target", "target_part", "target_row", "terms", "rows"),
)


class _Line:
    """Loads and stores of the points of one line, in a codelet's loop over vectors of columns."""

    def __init__(self, name: str, dtype: np.dtype[Any]) -> None:
        f = self.function = Formula(name, _ARGUMENTS, dtype)
        self.columns = f["columns"]
        self._zero, self._nowhere = f.scratch(), f.scratch()
        f.store(0, self._zero)

    def begin(self, i: Integer) -> None:
        self._mask = self.function.lanes_below(self.columns - i)
        self._i = i

    def load(self, j: int, part: int = 0) -> Vector:
        f = self.function
        row = f["source"] + f["source_step"] * j + f["source_part"] * part
        return f.load(self._beyond(j, f["sources"], row, self._zero), self._mask)

    def store(self, value: Vector | int, j: int, part: int = 0, add: bool = False) -> None:
        f = self.function
        row = f["target"] + f["target_step"] * j + f["target_part"] * part
        address = self._beyond(j, f["targets"], row, self._nowhere)
        f.store(value + f.load(address, self._mask) if add else value, address, self._mask)

    def _beyond(self, j: int, count: Integer, row: Integer, other: Integer) -> Integer:
        f = self.function
        return f.select(f.integer(j), count, row + self._i * f.itemsize, other)


@cache
def real_to_half(n: int, source: Points, dtype: np.dtype[Any]) -> Compiled:
    """Real points to the n // 2 + 1 complex frequencies."""
    line = _Line("real_to_half", dtype)
    with line.function.loop(line.columns, line.function.lanes) as i:
        line.begin(i)
        x = _padded([line.load(j) for j in range(source[1])], n, source[0], 0)
        for k, value in enumerate(real_dft(x)):
            line.store(value.re, k)
            line.store(value.im, k, 1)
    return line.function.compile()


@cache
def half_to_real(n: int, target: Points, add: bool, dtype: np.dtype[Any]) -> Compiled:
    """n // 2 + 1 complex frequencies to real points times n, or added to what there is."""
    line = _Line("half_to_real", dtype)
    with line.function.loop(line.columns, line.function.lanes) as i:
        line.begin(i)
        X = [Complex(line.load(k), line.load(k, 1)) for k in range(n // 2 + 1)]
        x = inverse_real_dft(X, n)
        for j in range(target[1]):
            line.store(x[target[0] + j], j, add=add)
    return line.function.compile()


@cache
def complex_to_complex(
    n: int, sign: int, source: Points, target: Points, add: bool, dtype: np.dtype[Any]
) -> Compiled:
    """Complex points to complex points, or added to what there is."""
    line = _Line("complex_to_complex", dtype)
    with line.function.loop(line.columns, line.function.lanes) as i:
        line.begin(i)
        points = [Complex(line.load(j), line.load(j, 1)) for j in range(source[1])]
        y = dft(_padded(points, n, source[0], Complex(0)), sign)
        for j in range(target[1]):
            line.store(y[target[0] + j].re, j, add=add)
            line.store(y[target[0] + j].im, j, 1, add=add)
    return line.function.compile()


@cache
def complex_to_factor(
    n: int, source: Points, side: Factor, conjugate: bool, dtype: np.dtype[Any]
) -> Compiled:
    """Complex points to three parts of complex frequencies z = a + ib: see `product`.

    Left factors become (a, b, a + b), right ones (b - a, a + b, a), of z or of its conjugate.
    """
    line = _Line("complex_to_factor", dtype)
    with line.function.loop(line.columns, line.function.lanes) as i:
        line.begin(i)
        points = [Complex(line.load(j), line.load(j, 1)) for j in range(source[1])]
        for k, z in enumerate(dft(_padded(points, n, source[0], Complex(0)), -1)):
            a, b = z.re, -z.im if conjugate else z.im
            parts = (a, b, a + b) if side == "left" else (b - a, a + b, a)
            for part, value in enumerate(parts):
                line.store(value, k, part)
    return line.function.compile()


_TURNS = ("source", "source_step", "target", "target_step", "turns", "columns")


@cache
def points_to_frequency(points: int, dtype: np.dtype[Any]) -> Compiled:
    """Real points x[j] to one frequency sum_j x[j] turn[j], a complex row whose imaginary parts are
    target_step after its real ones. `turns` are the addresses of complex numbers turn[j]; columns
    fill whole registers."""
    f = Formula("points_to_frequency", _TURNS, dtype)
    turns = _turns(f, points)
    with f.loop(f["columns"], f.lanes) as i:
        x = [f.load(f["source"] + f["source_step"] * j + i * f.itemsize) for j in range(points)]
        for part in range(2):
            total: Vector | int = 0
            for value, turn in zip(x, turns, strict=True):
                total = f.fma(value, turn[part], total)
            f.store(total, f["target"] + f["target_step"] * part + i * f.itemsize)
    return f.compile()


@cache
def frequency_to_points(points: int, dtype: np.dtype[Any]) -> Compiled:
    """Adds re * turn[j].re + im * turn[j].im of a complex row to real points x[j]: see
    `points_to_frequency`."""
    f = Formula("frequency_to_points", _TURNS, dtype)
    turns = _turns(f, points)
    with f.loop(f["columns"], f.lanes) as i:
        parts = [f.load(f["source"] + f["source_step"] * p + i * f.itemsize) for p in range(2)]
        for j, turn in enumerate(turns):
            at = f["target"] + f["target_step"] * j + i * f.itemsize
            total = f.load(at)
            for value, factor in zip(parts, turn, strict=True):
                total = f.fma(value, factor, total)
            f.store(total, at)
    return f.compile()


def _turns(f: Formula, points: int) -> list[list[Vector]]:
    return [
        [f.load_everywhere(f["turns"] + (2 * j + part) * f.itemsize) for part in range(2)]
        for j in range(points)
    ]


@cache
def product(vectors: int, add: bool, dtype: np.dtype[Any]) -> Compiled:
    """Complex matrix product of rows with `vectors` registers of columns, or added to the target.

    With three real products for one complex one, after Gauss:
    (a + ib)(c + id) = (a + b) c - b (c + d)  +  i ((a + b) c + a (d - c)).
    Left factors hold (a, b, a + b) and right ones (d - c, c + d, c), as `complex_to_factor` gives.
    """
    f = Formula("product", _PRODUCT, dtype)
    done: Integer | int = 0
    at_once = 8 // vectors  # three sums each: most of 32 registers
    while at_once:
        groups = (f["rows"] - done) // at_once
        with f.loop(groups) as group:
            _product_of_rows(f, vectors, [group * at_once + done + r for r in range(at_once)], add)
        done = groups * at_once + done
        at_once //= 2
    return f.compile()


def _product_of_rows(f: Formula, vectors: int, rows: list[Integer], add: bool) -> None:
    width = f.lanes * f.itemsize
    sums = [[[f.variable() for _ in range(vectors)] for _ in rows] for _ in range(3)]
    for total in (total for part in sums for row in part for total in row):
        total.set(0)
    with f.loop(f["terms"]) as t:
        for part in range(3):
            at = f["right"] + f["right_term"] * t + f["right_part"] * part
            columns = [f.load(at + v * width) for v in range(vectors)]
            at = f["left"] + f["left_term"] * t + f["left_part"] * part
            for row, totals in zip(rows, sums[part], strict=True):
                number = f.load_everywhere(at + f["left_row"] * row)
                for column, total in zip(columns, totals, strict=True):
                    total.set(f.fma(number, column, total.get()))
    for r, row in enumerate(rows):
        for v in range(vectors):
            ad, b, ac = (sums[part][r][v].get() for part in range(3))
            at = f["target"] + f["target_row"] * row + v * width
            for value, address in ((ac - b, at), (ac + ad, at + f["target_part"])):
                f.store(value + f.load(address) if add else value, address)


def _padded(points: list[Any], n: int, first: int, zero: Any) -> list[Any]:
    return [zero] * first + points + [zero] * (n - first - len(points))


def points_below(size: Integer, first: Integer, step: Integer) -> Integer:
    """How many of first, first + step, .. are below `size`; at most 0 where none is."""
    return (size - first + step - 1) // step
