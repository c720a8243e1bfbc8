"""Loops over arrays, written instruction by instruction and compiled while the program runs.

A kernel is written once, in Python, as a function that emits its loops for the shapes at hand: sums
stay in registers and offsets are constants (ZNN's "statically compiled" kernels, without a C
compiler to install). The order of every sum is as written, and products and sums are fused
everywhere: the bits depend neither on the width of the machine's vectors nor on threads.

Use `Loops` where vectors are of several widths or kinds (bytes, comparisons) and arrays do not
overlap, as in direct convolution and pooling; use `formulas` for arithmetic of which it pays to
drop what is zero, known already or wanted by nobody, and for functions that call others by address.
They are two because neither could say the other's kernels as briefly; `jit` compiles both.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir

from znn_dask.kernels.jit import Compiled, compile_function

_INTEGER = ir.IntType(64)
_LANE = ir.IntType(32)
_BIT = ir.IntType(1)
_BYTE = ir.IntType(8)
_RUN = (64, 16, 4, 1)  # elements of a run at a time: the widest as long as they fit, then the next

Value = Any  # of LLVM: an integer, an address or a vector that the written code computes


class Loops:
    """One function being written: arrays of one floating type and of bytes, and integers.

    `reals`, `arrays_of_bytes` and `integers` name the arguments in the order in which the compiled
    function wants them: addresses, then 64-bit integers. Offsets are in elements.
    """

    def __init__(
        self,
        name: str,
        dtype: np.dtype[Any],
        reals: Sequence[str],
        integers: Sequence[str],
        arrays_of_bytes: Sequence[str] = (),
    ) -> None:
        self.real = ir.FloatType() if dtype == np.float32 else ir.DoubleType()
        self._align = dtype.itemsize
        self._suffix = "f32" if dtype == np.float32 else "f64"
        self._module = ir.Module()
        arrays = len(reals) + len(arrays_of_bytes)
        types = [ir.PointerType(self.real)] * len(reals)
        types += [ir.PointerType(_BYTE)] * len(arrays_of_bytes) + [_INTEGER] * len(integers)
        function = ir.Function(self._module, ir.FunctionType(ir.VoidType(), types), name)
        for argument in function.args[:arrays]:
            argument.add_attribute("noalias")
        names = (*reals, *arrays_of_bytes, *integers)
        self._arguments = dict(zip(names, function.args, strict=True))
        self._build = ir.IRBuilder(function.append_basic_block("entry"))

    def __getitem__(self, name: str) -> Any:
        """The argument of that name."""
        return self._arguments[name]

    def arguments(self, *names: str) -> tuple[Any, ...]:
        """Several of them."""
        return tuple(self[name] for name in names)

    def compile(self) -> Compiled:
        """The function written so far; it may run in several threads, without Python's lock."""
        self._build.ret_void()
        return compile_function(str(self._module), tuple(self._arguments))

    # Integers

    def integer(self, value: Any) -> Any:
        return ir.Constant(_INTEGER, value) if isinstance(value, int) else value

    def sum(self, *terms: Any) -> Any:
        total = self.integer(terms[0])
        for term in terms[1:]:
            total = self._build.add(total, self.integer(term))
        return total

    def difference(self, a: Any, b: Any) -> Any:
        return self._build.sub(self.integer(a), self.integer(b))

    def product(self, a: Any, b: Any) -> Any:
        return self._build.mul(self.integer(a), self.integer(b))

    def dot(self, a: Sequence[Any], b: Sequence[Any]) -> Any:
        """a[0] b[0] + a[1] b[1] + .."""
        return self.sum(*(self.product(*pair) for pair in zip(a, b, strict=True)))

    def smaller(self, a: Any, b: Any) -> Any:
        a, b = self.integer(a), self.integer(b)
        return self._build.select(self._build.icmp_signed("<", a, b), a, b)

    def larger(self, a: Any, b: Any) -> Any:
        a, b = self.integer(a), self.integer(b)
        return self._build.select(self._build.icmp_signed(">", a, b), a, b)

    def ceiling(self, a: Any, b: Any) -> Any:
        """a / b rounded up, at least 0; b > 0."""
        a = self.larger(self.integer(a), 0)
        return self._build.sdiv(self.sum(a, self.difference(b, 1)), self.integer(b))

    def quotient(self, a: Any, b: Any) -> Any:
        """a / b rounded down; neither is negative."""
        return self._build.udiv(self.integer(a), self.integer(b))

    def whole(self, a: Any, b: int) -> Any:
        """The largest multiple of b, a power of two, that does not exceed a."""
        return self._build.and_(self.integer(a), self.integer(-b))

    @contextmanager
    def loop(self, start: Any, stop: Any, step: Any = 1) -> Iterator[Any]:
        """The statements inside, for start, start + step, .. below stop."""
        build = self._build
        with build.goto_entry_block():
            counter = build.alloca(_INTEGER)
        build.store(self.integer(start), counter)
        head, body, end = (build.append_basic_block() for _ in range(3))
        build.branch(head)
        build.position_at_end(head)
        index = build.load(counter)
        build.cbranch(build.icmp_signed("<", index, self.integer(stop)), body, end)
        build.position_at_end(body)
        yield index
        build.store(build.add(index, self.integer(step)), counter)
        build.branch(head)
        build.position_at_end(end)

    def parts(self, count: Any) -> Iterator[tuple[int, Any]]:
        """(width, index) of the parts of `count` elements that are worked on `width` at a time."""
        start = self.integer(0)
        for width in _RUN:
            stop = self.sum(start, self.whole(self.difference(count, start), width))
            with self.loop(start, stop, width) as index:
                yield width, index
            start = stop

    # Vectors

    def at(self, pointer: Any, offset: Any) -> Any:
        """Address `offset` elements after `pointer`."""
        return self._build.gep(pointer, [self.integer(offset)])

    def base(self, pointer: Any, offset: Any) -> Any:
        """The same, for many accesses at constant offsets from there.

        LLVM would look for a cleverer pointer for each of them, and take most of its time for it.
        """
        name = "llvm.launder.invariant.group.p0"
        return self._call(name, pointer.type, [self.at(pointer, offset)])

    def variable(self, width: int) -> Any:
        """A vector that can be set: it lives in a register."""
        return self._variable(self.real, width)

    def byte_variable(self, width: int) -> Any:
        """The same of bytes."""
        return self._variable(_BYTE, width)

    def _variable(self, kind: Any, width: int) -> Any:
        with self._build.goto_entry_block():
            return self._build.alloca(ir.VectorType(kind, width))

    def get(self, variable: Any) -> Any:
        return self._build.load(variable)

    def set(self, variable: Any, value: Any) -> None:
        self._build.store(value, variable)

    def zero(self, width: int) -> Any:
        return ir.Constant(ir.VectorType(self.real, width), None)

    def load(self, pointer: Any, width: int, lanes: int | None = None) -> Any:
        """`width` elements; those after the first `lanes` are zero and not read."""
        vector = ir.VectorType(self.real, width)
        address = self._build.bitcast(pointer, ir.PointerType(vector))
        if lanes is None or lanes == width:
            return self._build.load(address, align=self._align)
        mask = _mask(width, lanes)
        name = f"llvm.masked.load.v{width}{self._suffix}.p0"
        arguments = [address, _LANE(self._align), mask, self.zero(width)]
        return self._call(name, vector, arguments)

    def load_apart(self, pointer: Any, step: Any, mask: Any) -> Any:
        """Elements `step` apart, where `mask` is set; the others are zero and not read."""
        width = mask.type.count
        addresses = self._addresses(pointer, step, width)
        vector = ir.VectorType(self.real, width)
        name = f"llvm.masked.gather.v{width}{self._suffix}.v{width}p0"
        return self._call(name, vector, [addresses, _LANE(self._align), mask, self.zero(width)])

    def first_lanes(self, count: Any, width: int) -> Any:
        """Mask of the first `count` lanes, or all."""
        numbers = ir.Constant(ir.VectorType(_INTEGER, width), list(range(width)))
        return self._build.icmp_signed("<", numbers, self._spread(self.integer(count), width))

    def store_apart(self, value: Any, pointer: Any, step: Any) -> None:
        """Write the elements `step` apart."""
        width = value.type.count
        addresses = self._addresses(pointer, step, width)
        name = f"llvm.masked.scatter.v{width}{self._suffix}.v{width}p0"
        arguments = [value, addresses, _LANE(self._align), _mask(width, width)]
        self._call(name, ir.VoidType(), arguments)

    def _addresses(self, pointer: Any, step: Any, width: int) -> Any:
        numbers = ir.Constant(ir.VectorType(_INTEGER, width), list(range(width)))
        first = self._spread(self._build.ptrtoint(pointer, _INTEGER), width)
        steps = self._spread(self.product(step, self._align), width)
        integers = self._build.add(first, self._build.mul(numbers, steps))
        return self._build.inttoptr(integers, ir.VectorType(pointer.type, width))

    def store_where(self, value: Any, pointer: Any, mask: Any) -> None:
        """Write the elements where `mask` is set."""
        width = value.type.count
        address = self._build.bitcast(pointer, ir.PointerType(value.type))
        name = f"llvm.masked.store.v{width}{self._suffix}.p0"
        self._call(name, ir.VoidType(), [value, address, _LANE(self._align), mask])

    def store(self, value: Any, pointer: Any, width: int, lanes: int | None = None) -> None:
        """Write the first `lanes` (or all) of `width` elements."""
        address = self._build.bitcast(pointer, ir.PointerType(value.type))
        if lanes is None or lanes == width:
            self._build.store(
                value, address, align=self._align if value.type.element == self.real else 1
            )
            return
        name = f"llvm.masked.store.v{width}{self._suffix}.p0"
        self._call(name, ir.VoidType(), [value, address, _LANE(self._align), _mask(width, lanes)])

    def spread(self, pointer: Any, width: int) -> Any:
        """The element there in every lane."""
        scalar = self._build.load(pointer)
        return self._spread(scalar, width)

    def _spread(self, scalar: Any, width: int) -> Any:
        undefined = ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined)
        first = self._build.insert_element(undefined, scalar, _LANE(0))
        lanes = ir.Constant(ir.VectorType(_LANE, width), None)
        return self._build.shuffle_vector(first, undefined, lanes)

    def load_bytes(self, pointer: Any, width: int) -> Any:
        address = self._build.bitcast(pointer, ir.PointerType(ir.VectorType(_BYTE, width)))
        return self._build.load(address, align=1)

    def spread_byte(self, value: Any, width: int) -> Any:
        """An integer below 256 in every lane."""
        return self._spread(self._build.trunc(self.integer(value), _BYTE), width)

    def exceeds(self, a: Any, b: Any) -> Any:
        """Where a is larger than b or not a number, and b is a number."""
        larger = self._build.fcmp_unordered(">", a, b)
        return self._build.and_(larger, self._build.fcmp_ordered("ord", b, b))

    def equal(self, a: Any, b: Any) -> Any:
        """Where bytes are equal."""
        return self._build.icmp_unsigned("==", a, b)

    def choose(self, where: Any, a: Any, b: Any) -> Any:
        return self._build.select(where, a, b)

    def shuffle(self, a: Any, b: Any, lanes: Iterable[int]) -> Any:
        """Lane i is lane lanes[i] of a followed by b."""
        numbers = list(lanes)
        return self._build.shuffle_vector(
            a, b, ir.Constant(ir.VectorType(_LANE, len(numbers)), numbers)
        )

    def number(self, value: float, width: int) -> Any:
        """A constant in every lane."""
        return ir.Constant(ir.VectorType(self.real, width), [value] * width)

    def positive(self, a: Any) -> Any:
        """Where a is larger than zero."""
        return self._build.fcmp_ordered(">", a, self.zero(a.type.count))

    def add(self, a: Any, b: Any) -> Any:
        return self._build.fadd(a, b)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c, rounded once."""
        return self._call(f"llvm.fma.v{a.type.count}{self._suffix}", a.type, [a, b, c])

    def _call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        function = self._module.globals.get(name)
        if function is None:
            types = [a.type for a in arguments]
            function = ir.Function(self._module, ir.FunctionType(result, types), name)
        return self._build.call(function, arguments)


def _mask(width: int, lanes: int) -> Any:
    bits = [_BIT(int(lane < lanes)) for lane in range(width)]
    return ir.Constant(ir.VectorType(_BIT, width), bits)
