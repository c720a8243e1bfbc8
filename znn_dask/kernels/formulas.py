"""Formulas written in Python operators and compiled for the processor at hand (see `jit`).

A `Formula` records what is done to its `Integer`s (addresses, counts) and `Vector`s (a register
full of reals, one channel each) as LLVM instructions::

    f = Formula("halve", ("source", "target", "count"), np.dtype("f4"))
    with f.loop(f["count"], f.lanes) as i:
        mask = f.lanes_below(f["count"] - i)
        f.store(f.load(f["source"] + i * 4, mask) * 0.5, f["target"] + i * 4, mask)
    halve = f.compile()
    halve(source=x.ctypes.data, target=y.ctypes.data, count=x.size)

A vector is kept as an SSA value times a known factor, and equal operations are recorded once. So
a sum of scaled vectors is one fused multiply-add, signs cost nothing, and what two outputs share is
computed once. Lanes never mix and nothing is reordered: the bits do not depend on the width of the
registers.

For transforms and what calls them. Kernels with vectors of several widths, bytes or comparisons are
written with `loops`, which says why there are two.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from znn_dask.kernels.jit import Compiled, compile_function, registers
from znn_dask.kernels.values import Integer, Vector


class Formula:
    """A function of named 64-bit integers under construction."""

    def __init__(self, name: str, arguments: Sequence[str], dtype: np.dtype[Any]) -> None:
        self.name = name
        self.itemsize = dtype.itemsize
        self.lanes = registers().bytes // dtype.itemsize
        self._real = {4: "float", 8: "double"}[dtype.itemsize]
        self._suffix = f"v{self.lanes}f{8 * dtype.itemsize}"
        self.vector = f"<{self.lanes} x {self._real}>"
        self._mask = f"<{self.lanes} x i1>"
        self._arguments = {a: Integer(self, f"%{a}") for a in arguments}
        self._lines: list[str] = []
        self._variables: list[str] = []
        self._known: dict[str, str] = {}
        self._names = 0

    def __getitem__(self, argument: str) -> Integer:
        return self._arguments[argument]

    # ---- values

    def value(self, text: str) -> str:
        """Name of what instruction `text` yields; equal text gives the same name."""
        if text not in self._known:
            self._known[text] = self._fresh()
            self._lines.append(f"{self._known[text]} = {text}")
        return self._known[text]

    def constant(self, number: float) -> str:
        if self.itemsize == 4:
            number = float(np.float32(number))
        bits = struct.pack(">d", number).hex().upper()
        return "<" + ", ".join([f"{self._real} 0x{bits}"] * self.lanes) + ">"

    def fma_text(self, a: str, b: str, c: str) -> str:
        v = self.vector
        return f"call {v} @llvm.fma.{self._suffix}({v} {a}, {v} {b}, {v} {c})"

    def fma(self, a: Vector, b: Vector, c: Vector) -> Vector:
        """a * b + c, rounded once."""
        return Vector(self, self.value(self.fma_text(*(self._name(v) for v in (a, b, c)))))

    def smaller(self, a: Integer, b: Integer) -> Integer:
        return self.select(a, b, a, b)

    def select(self, a: Integer, b: Integer | int, yes: Integer, no: Integer) -> Integer:
        """`yes` where a < b, else `no`."""
        other = b.name if isinstance(b, Integer) else str(b)
        test = self.value(f"icmp slt i64 {a.name}, {other}")
        return Integer(self, self.value(f"select i1 {test}, i64 {yes.name}, i64 {no.name}"))

    # ---- memory

    def lanes_below(self, count: Integer) -> str:
        """Mask of the first `count` lanes."""
        text = f"call {self._mask} @llvm.get.active.lane.mask.v{self.lanes}i1.i64"
        return self.value(f"{text}(i64 0, i64 {count.name})")

    def load(self, address: Integer, mask: str | None = None) -> Vector:
        """The vector at `address`; lanes that are masked out are zero."""
        pointer = self._pointer(address)
        if mask is None:
            return Vector(self, self._now(f"load {self.vector}, ptr {pointer}, align 4"))
        v = self.vector
        call = f"call {v} @llvm.masked.load.{self._suffix}.p0(ptr {pointer}, i32 4, "
        return Vector(self, self._now(f"{call}{self._mask} {mask}, {v} zeroinitializer)"))

    def gather(self, address: Integer, step: Integer, mask: str) -> Vector:
        """Lane i from address + i * step."""
        lanes, v = range(self.lanes), self.vector
        wide = f"<{self.lanes} x i64>"
        counts = "<" + ", ".join(f"i64 {i}" for i in lanes) + ">"
        offsets = self.value(f"mul {wide} {self._splat('i64', step.name, wide)}, {counts}")
        base = self._splat("i64", address.name, wide)
        pointers = self.value(
            f"inttoptr {wide} {self.value(f'add {wide} {base}, {offsets}')} to <{self.lanes} x ptr>"
        )
        call = f"call {v} @llvm.masked.gather.{self._suffix}.v{self.lanes}p0("
        call += f"<{self.lanes} x ptr> {pointers}, i32 4, {self._mask} {mask}, "
        return Vector(self, self._now(f"{call}{v} zeroinitializer)"))

    def load_everywhere(self, address: Integer) -> Vector:
        """The number at `address` in all lanes."""
        number = self._now(f"load {self._real}, ptr {self._pointer(address)}, align 4")
        return Vector(self, self._splat(self._real, number, self.vector))

    def store(self, vector: Vector | int, address: Integer, mask: str | None = None) -> None:
        name, pointer = self._name(vector), self._pointer(address)
        if mask is None:
            self._lines.append(f"store {self.vector} {name}, ptr {pointer}, align 4")
            return
        call = f"call void @llvm.masked.store.{self._suffix}.p0({self.vector} {name}, "
        self._lines.append(f"{call}ptr {pointer}, i32 4, {self._mask} {mask})")

    def clear(self, address: Integer, size: Integer) -> None:
        """Set `size` bytes to zero."""
        self._lines.append(
            f"call void @llvm.memset.p0.i64(ptr {self._pointer(address)}, i8 0, "
            f"i64 {size.name}, i1 false)"
        )

    def copy(self, source: Integer, target: Integer, size: Integer) -> None:
        """Copy `size` bytes."""
        self._lines.append(
            f"call void @llvm.memcpy.p0.p0.i64(ptr {self._pointer(target)}, "
            f"ptr {self._pointer(source)}, i64 {size.name}, i1 false)"
        )

    def scratch(self) -> Integer:
        """Address of room for one vector."""
        name = f"%scratch{len(self._variables)}"
        self._variables.append(f"{name} = alloca {self.vector}, align 64")
        return Integer(self, self.value(f"ptrtoint ptr {name} to i64"))

    def variable(self) -> "Variable":
        name = f"%variable{len(self._variables)}"
        self._variables.append(f"{name} = alloca {self.vector}, align 64")
        return Variable(self, name)

    # ---- control

    @contextmanager
    def loop(self, count: Integer | int, step: Integer | int = 1) -> Iterator[Integer]:
        """Its body runs for 0, step, .. below `count`."""
        tag = self._fresh()[1:]
        self._variables.append(f"%at.{tag} = alloca i64")
        self._lines += [f"store i64 0, ptr %at.{tag}", f"br label %head.{tag}", f"head.{tag}:"]
        known = dict(self._known)
        i = Integer(self, self._now(f"load i64, ptr %at.{tag}"))
        end = count.name if isinstance(count, Integer) else str(count)
        test = self._now(f"icmp slt i64 {i.name}, {end}")
        self._lines += [f"br i1 {test}, label %body.{tag}, label %done.{tag}", f"body.{tag}:"]
        yield i
        further = step.name if isinstance(step, Integer) else str(step)
        after = self._now(f"add i64 {i.name}, {further}")
        self._lines += [f"store i64 {after}, ptr %at.{tag}", f"br label %head.{tag}"]
        self._lines.append(f"done.{tag}:")
        self._known = known  # what the body computed is not known after it

    def integer(self, number: int) -> Integer:
        return Integer(self, str(number))

    def call(self, address: Integer, *arguments: Integer | int) -> None:
        """Call the compiled function at `address`."""
        values = (str(a) if isinstance(a, int) else a.name for a in arguments)
        listed = ", ".join(f"i64 {v}" for v in values)
        self._lines.append(f"call void {self._pointer(address)}({listed})")

    def compile(self) -> Compiled:
        parameters = ", ".join(f"i64 {a.name}" for a in self._arguments.values())
        v, m, s = self.vector, self._mask, self._suffix
        text = "\n".join(
            [
                f"declare {v} @llvm.fma.{s}({v}, {v}, {v})",
                f"declare {v} @llvm.masked.load.{s}.p0(ptr, i32, {m}, {v})",
                f"declare void @llvm.masked.store.{s}.p0({v}, ptr, i32, {m})",
                f"declare {v} @llvm.masked.gather.{s}.v{self.lanes}p0"
                f"(<{self.lanes} x ptr>, i32, {m}, {v})",
                f"declare {m} @llvm.get.active.lane.mask.v{self.lanes}i1.i64(i64, i64)",
                "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
                "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
                f'define void @"{self.name}"({parameters}) nounwind {{',
                "entry:",
                *self._variables,
                *self._lines,
                "ret void",
                "}",
            ]
        )
        return compile_function(text, tuple(self._arguments))

    # ---- text

    def _fresh(self) -> str:
        self._names += 1
        return f"%v{self._names}"

    def _now(self, text: str) -> str:
        """Like `value`, of an instruction that may yield something else another time."""
        name = self._fresh()
        self._lines.append(f"{name} = {text}")
        return name

    def _name(self, vector: Vector | int) -> str:
        if not isinstance(vector, Vector):
            return "zeroinitializer"
        if vector.factor == 1.0:
            return vector.name
        if vector.factor == -1.0:
            return self.value(f"fneg {self.vector} {vector.name}")
        return self.value(f"fmul {self.vector} {vector.name}, {self.constant(vector.factor)}")

    def _pointer(self, address: Integer) -> str:
        return self.value(f"inttoptr i64 {address.name} to ptr")

    def _splat(self, kind: str, name: str, vector: str) -> str:
        one = self.value(f"insertelement {vector} poison, {kind} {name}, i64 0")
        zeros = f"<{self.lanes} x i32> zeroinitializer"
        return self.value(f"shufflevector {vector} {one}, {vector} poison, {zeros}")


class Variable:
    """A vector that may change, such as a sum over a loop."""

    def __init__(self, function: Formula, pointer: str) -> None:
        self._function = function
        self._pointer = pointer

    def get(self) -> Vector:
        f = self._function
        return Vector(f, f._now(f"load {f.vector}, ptr {self._pointer}, align 64"))

    def set(self, vector: Vector | int) -> None:
        f = self._function
        f._lines.append(f"store {f.vector} {f._name(vector)}, ptr {self._pointer}, align 64")
