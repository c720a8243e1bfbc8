"""Compiled transforms of one line of points, each point a row of channels, and matrix products.

Every codelet takes addresses and steps in bytes::

    codelet(source, source_step, source_part, sources, source_column,
            target, target_step, target_part, targets, columns)

Point j of the source is the row of `columns` numbers at source + j * source_step. Points from
`sources` on are zero and points of the target from `targets` on are dropped: they lie beyond the
map. A codelet for lines that are known to lie `inside` need not look at these counts. With `gather`
the numbers of a row of the source are source_column apart, not one after the other. A complex point
has its imaginary parts at source_part after its real parts.

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
    *("source", "source_step", "source_part", "sources", "source_column"),
    *("target", "target_step", "target_part", "targets", "columns"),
)
_PRODUCT = (
    *("left", "left_part", "left_row", "left_term", "right", "right_part", "right_term"),
    *("target", "target_part", "target_row", "terms", "rows"),
)


class _Line:
    """Loads and stores of the points of one line, in a codelet's loop over vectors of columns."""

    def __init__(self, name: str, dtype: np.dtype[Any], inside: bool, gather: bool = False) -> None:
        f = self.function = Formula(name, _ARGUMENTS, dtype)
        self.columns = f["columns"]
        self._inside, self._gather = inside, gather
        self._zero, self._nowhere = f.scratch(), f.scratch()
        f.store(0, self._zero)

    def begin(self, i: Integer) -> None:
        self._mask = self.function.lanes_below(self.columns - i)
        self._i = i

    def load(self, j: int, part: int = 0) -> Vector:
        row = self._row("source", j, part, self._zero)
        if self._gather:
            return self.function.gather(row, self.function["source_column"], self._mask)
        return self.function.load(row, self._mask)

    def store(self, value: Vector | int, j: int, part: int = 0, add: bool = False) -> None:
        f = self.function
        row = self._row("target", j, part, self._nowhere)
        f.store(value + f.load(row, self._mask) if add else value, row, self._mask)

    def _row(self, name: str, j: int, part: int, beyond: Integer) -> Integer:
        f = self.function
        if self._inside:
            return self._inside_row(name, j, part)
        return f.select(f.integer(j), f[f"{name}s"], self._inside_row(name, j, part), beyond)

    def _inside_row(self, name: str, j: int, part: int) -> Integer:
        """From the row before: additions are cheaper than many products."""
        f = self.function
        if j:
            return self._inside_row(name, j - 1, part) + f[f"{name}_step"]
        if part:
            return self._inside_row(name, 0, part - 1) + f[f"{name}_part"]
        column = f["source_column"] if self._gather and name == "source" else f.itemsize
        return f[name] + self._i * column


@cache
def real_to_half(
    n: int, source: Points, dtype: np.dtype[Any], inside: bool, gather: bool = False
) -> Compiled:
    """Real points to the n // 2 + 1 complex frequencies."""
    line = _Line("real_to_half", dtype, inside, gather)
    with line.function.loop(line.columns, line.function.lanes) as i:
        line.begin(i)
        x = _padded([line.load(j) for j in range(source[1])], n, source[0], 0)
        for k, value in enumerate(real_dft(x)):
            line.store(value.re, k)
            line.store(value.im, k, 1)
    return line.function.compile()


@cache
def half_to_real(n: int, target: Points, add: bool, dtype: np.dtype[Any], inside: bool) -> Compiled:
    """n // 2 + 1 complex frequencies to real points times n, or added to what there is."""
    line = _Line("half_to_real", dtype, inside)
    with line.function.loop(line.columns, line.function.lanes) as i:
        line.begin(i)
        X = [Complex(line.load(k), line.load(k, 1)) for k in range(n // 2 + 1)]
        x = inverse_real_dft(X, n)
        for j in range(target[1]):
            line.store(x[target[0] + j], j, add=add)
    return line.function.compile()


@cache
def complex_to_complex(
    n: int,
    sign: int,
    source: Points,
    target: Points,
    add: bool,
    dtype: np.dtype[Any],
    inside: bool,
    gather: bool = False,
) -> Compiled:
    """Complex points to complex points, or added to what there is."""
    line = _Line("complex_to_complex", dtype, inside, gather)
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
    n: int, source: Points, side: Factor, conjugate: bool, dtype: np.dtype[Any], inside: bool
) -> Compiled:
    """Complex points to parts of complex frequencies z = a + ib: see `product`.

    Left factors become (a, b, a + b), right ones (a, b), of z or of its conjugate.
    """
    line = _Line("complex_to_factor", dtype, inside)
    with line.function.loop(line.columns, line.function.lanes) as i:
        line.begin(i)
        points = [Complex(line.load(j), line.load(j, 1)) for j in range(source[1])]
        for k, z in enumerate(dft(_padded(points, n, source[0], Complex(0)), -1)):
            a, b = z.re, -z.im if conjugate else z.im
            parts = (a, b, a + b) if side == "left" else (a, b)
            for part, value in enumerate(parts):
                line.store(value, k, part)
    return line.function.compile()


@cache
def product(vectors: int, add: bool, dtype: np.dtype[Any]) -> Compiled:
    """Complex matrix product of rows with `vectors` registers of columns, or added to the target.

    With three real products for one complex one, after Gauss:
    (a + ib)(c + id) = (a + b) c - b (c + d)  +  i ((a + b) c + a (d - c)).
    Left factors hold (a, b, a + b) as `complex_to_factor` gives. Sums of right ones are taken here:
    writing them to memory would cost more.
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
        at = f["right"] + f["right_term"] * t
        c, d = (
            [f.load(at + f["right_part"] * part + v * width) for v in range(vectors)]
            for part in range(2)
        )
        differences: list[Any] = [im - re for re, im in zip(c, d, strict=True)]
        totals_of: list[Any] = [re + im for re, im in zip(c, d, strict=True)]
        for part, columns in enumerate((differences, totals_of, c)):
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
