"""What a `formulas.Formula` computes with: integers and vectors, under Python's operators."""

from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from znn_dask.kernels.formulas import Formula


class Integer:
    """A 64-bit integer known when the function runs."""

    def __init__(self, function: "Formula", name: str) -> None:
        self.function = function
        self.name = name

    def _binary(self, operation: str, a: Union["Integer", int], b: Union["Integer", int]) -> Any:
        x, y = (v.name if isinstance(v, Integer) else str(v) for v in (a, b))
        return Integer(self.function, self.function.value(f"{operation} i64 {x}, {y}"))

    def __add__(self, other: Union["Integer", int]) -> "Integer":
        return self if other == 0 and isinstance(other, int) else self._binary("add", self, other)

    __radd__ = __add__

    def __sub__(self, other: Union["Integer", int]) -> "Integer":
        return self._binary("sub", self, other)

    def __rsub__(self, other: int) -> "Integer":
        return self._binary("sub", other, self)

    def __mul__(self, other: Union["Integer", int]) -> "Integer":
        return self._binary("mul", self, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: Union["Integer", int]) -> "Integer":
        """Towards zero, unlike Python's."""
        return self._binary("sdiv", self, other)


class Vector:
    """factor * value: a register of reals. Arithmetic with numbers other than 0 is scaling."""

    def __init__(self, function: "Formula", name: str, factor: float = 1.0) -> None:
        self.function = function
        self.name = name
        self.factor = factor

    def __neg__(self) -> "Vector":
        return Vector(self.function, self.name, -self.factor)

    def __mul__(self, other: float) -> Union["Vector", int]:
        return Vector(self.function, self.name, self.factor * other) if other else 0

    __rmul__ = __mul__

    def __add__(self, other: Union["Vector", int]) -> Union["Vector", int]:
        if not isinstance(other, Vector):
            assert other == 0, f"{other} is no vector: only zero is both"
            return self
        # The larger factor goes in front of the sum, so the one within is at most 1.
        a, b = sorted((self, other), key=lambda v: (-abs(v.factor), v.name))
        if a.name == b.name:
            return self * ((a.factor + b.factor) / self.factor)
        f, ratio = self.function, b.factor / a.factor
        if abs(ratio) == 1.0:
            text = f"{'fadd' if ratio > 0 else 'fsub'} {f.vector} {a.name}, {b.name}"
        else:
            text = f.fma_text(b.name, f.constant(ratio), a.name)
        return Vector(f, f.value(text), a.factor)

    __radd__ = __add__

    def __sub__(self, other: Union["Vector", int]) -> Union["Vector", int]:
        return self + (-other)

    def __rsub__(self, other: int) -> Union["Vector", int]:
        return -self + other
