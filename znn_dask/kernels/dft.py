"""The discrete Fourier transform as plain formulas, for numbers of any kind.

Numbers that are known to be zero are plain zeros, and cost nothing where the arithmetic of the
others drops them. So transforms of real, of mirrored and of zero-padded points need no formulas of
their own: see `values.Vector`, with which these formulas become code.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Complex:
    """re + i im of numbers that can be added, negated, and multiplied by a float."""

    re: Any
    im: Any = 0

    def __add__(self, other: "Complex") -> "Complex":
        return Complex(self.re + other.re, self.im + other.im)

    def __sub__(self, other: "Complex") -> "Complex":
        return Complex(self.re - other.re, self.im - other.im)

    def times(self, c: float, s: float) -> "Complex":
        """Times c + i s."""
        return Complex(self.re * c - self.im * s, self.im * c + self.re * s)

    def times_i(self) -> "Complex":
        return Complex(-self.im, self.re)

    def conjugate(self) -> "Complex":
        return Complex(self.re, -self.im)


def dft(x: Sequence[Complex], sign: int) -> list[Complex]:
    """X[k] = sum_j x[j] exp(2 pi i sign j k / n), not divided by anything."""
    n = len(x)
    if n == 1:
        return list(x)
    p = _least_factor(n)
    q = p
    while n % (q * p) == 0:
        q *= p
    if q < n:
        return _coprime(x, q, n // q, sign)
    if n > 4 and p == 2:
        return _composite(x, 4, n // 4, sign)
    if n > p and n != 4:
        return _composite(x, p, n // p, sign)
    if n == 2:
        return [x[0] + x[1], x[0] - x[1]]
    if n == 4:
        even, odd = x[0] + x[2], x[1] + x[3]
        left, right = x[0] - x[2], (x[1] - x[3]).times(0, sign)
        return [even + odd, left + right, even - odd, left - right]
    return _odd_prime(x, sign)


def real_dft(x: Sequence[Any]) -> list[Complex]:
    """The first n // 2 + 1 of the transform of n real points; the others mirror them."""
    return dft([Complex(value) for value in x], -1)[: len(x) // 2 + 1]


def inverse_real_dft(X: Sequence[Complex], n: int) -> list[Any]:
    """n real points times n from the first n // 2 + 1 of their transform."""
    first = [Complex(X[0].re), *X[1:]]
    if n % 2 == 0:
        first[n // 2] = Complex(X[n // 2].re)
    mirrored = [first[n - k].conjugate() for k in range(n // 2 + 1, n)]
    return [value.re for value in dft(first + mirrored, 1)]


def _coprime(x: Sequence[Complex], a: int, b: int, sign: int) -> list[Complex]:
    """n = a b without common factor: a transform over a grid (a, b), by Good and Thomas."""
    n = a * b
    rows = [dft([x[(i * b + j * a) % n] for j in range(b)], sign) for i in range(a)]
    columns = [dft([rows[i][j] for i in range(a)], sign) for j in range(b)]
    # The grid index of k: multiples of b in x meet k mod a.
    return [columns[k % b][k % a] for k in range(n)]


def _composite(x: Sequence[Complex], a: int, b: int, sign: int) -> list[Complex]:
    """n = a b: transforms of every a-th point, turned, and transforms across them."""
    n = a * b
    parts = [dft(x[i::a], sign) for i in range(a)]
    result = [Complex(0)] * n
    for k in range(b):
        turned = [parts[i][k].times(*_root(sign * i * k, n)) for i in range(a)]
        for j, value in enumerate(dft(turned, sign)):
            result[j * b + k] = value
    return result


def _odd_prime(x: Sequence[Complex], sign: int) -> list[Complex]:
    """By pairs of mirrored points."""
    n = len(x)
    half = range(1, n // 2 + 1)
    sums = [x[j] + x[n - j] for j in half]
    differences = [(x[j] - x[n - j]).times_i() for j in half]
    result = list(x)
    for k in half:
        even, odd = x[0], Complex(0)
        for j, total, difference in zip(half, sums, differences, strict=True):
            c, s = _root(sign * j * k, n)
            even = even + total.times(c, 0)
            odd = odd + difference.times(s, 0)
        result[k], result[n - k] = even + odd, even - odd
    for total in sums:
        result[0] = result[0] + total
    return result


def _root(k: int, n: int) -> tuple[float, float]:
    """exp(2 pi i k / n), with the symmetries of the circle exact to the last bit."""
    octant, rest = divmod(8 * (k % n), n)
    angle = math.pi / 4 * (n - rest if octant % 2 else rest) / n
    c, s = math.cos(angle), math.sin(angle)
    if octant in (1, 2, 5, 6):
        c, s = s, c
    return (-c if octant in (2, 3, 4, 5) else c), (-s if octant >= 4 else s)


def _least_factor(n: int) -> int:
    return next((p for p in range(2, math.isqrt(n) + 1) if n % p == 0), n)
