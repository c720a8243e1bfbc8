"""LLVM as a compiler in the process, the functions that it makes, and what it knows of registers.

Two writers hand their text to `compile_function`: `loops` and `formulas`.
"""

import ctypes
import itertools
import platform
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm

_compiling = threading.Lock()
_numbers = itertools.count()


class Compiled:
    """A function of named addresses and 64-bit integers. It runs without the interpreter's lock."""

    def __init__(self, address: int, arguments: Sequence[str]) -> None:
        self.address = address
        self.arguments = tuple(arguments)
        self._given: dict[tuple[int, ...], Call] = {}

    def __call__(self, **arguments: int) -> None:
        self.bind(**arguments)()

    def bind(self, *later: str, **arguments: int) -> "Call":
        """The function with these arguments; those of the names `later` come when it is called."""
        return Call(self, later, arguments)

    def given(self, last: tuple[int, ...]) -> "Call":
        """The function with these last arguments, kept for the next time; the first ones come when
        it is called."""
        call = self._given.get(last)
        if call is None:
            first = self.arguments[: -len(last)]
            names = self.arguments[len(first) :]
            call = self._given[last] = self.bind(*first, **dict(zip(names, last, strict=True)))
        return call


class Call:
    """A call that is the same every time but for a few arguments, mostly addresses.

    Its other words are put in order once: that takes longer than many a kernel runs.
    """

    def __init__(
        self, function: Compiled, later: Sequence[str], arguments: Mapping[str, int]
    ) -> None:
        names = function.arguments
        if {*later, *arguments} != {*names}:
            raise TypeError(f"arguments {({*later, *arguments}) ^ {*names}} do not fit")
        self._words = [function.address, *(arguments.get(name, 0) for name in names)]
        self._places = tuple(1 + names.index(name) for name in later)
        self._pack = struct.Struct(f"{len(self._words)}q").pack
        self._enter = _enter(len(names))

    def __call__(self, *later: int) -> None:
        words = self._words.copy()  # several threads may be calling
        for place, value in zip(self._places, later, strict=True):
            words[place] = value
        self._enter(self._pack(*words))


@dataclass(frozen=True)
class Registers:
    """Vector registers: how many there are, and the bytes of one."""

    count: int
    bytes: int


@cache
def registers() -> Registers:
    """The widest vector registers here; without LLVM's word on them, those every processor has."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return Registers(32, 64)
    if features.get("avx"):
        return Registers(16, 32)
    return Registers(32 if platform.machine() in ("aarch64", "arm64") else 16, 16)


def compile_function(text: str, arguments: Sequence[str]) -> Compiled:
    """The one function that `text` defines, in LLVM's language, optimised for this processor.

    Its arguments are 64-bit integers and addresses. Its code is never freed: any thread may be
    running it.
    """
    with _compiling:
        engine, machine = _engine()
        module = llvm.parse_assembly(text)
        (function,) = (f for f in module.functions if not f.is_declaration)
        function.name = f"{function.name}.{next(_numbers)}"  # the engine finds functions by name
        # What is written is vectors and loops as they shall be: LLVM's other passes over loops take
        # as long again and find nothing.
        passes = llvm.create_new_module_pass_manager()
        passes.add_sroa_pass()
        passes.add_instruction_combine_pass()
        passes.add_jump_threading_pass()
        passes.add_simplify_cfg_pass()
        passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
        engine.add_module(module)
        engine.finalize_object()
        return Compiled(int(engine.get_function_address(function.name)), arguments)


@cache
def _enter(count: int) -> Callable[[bytes], None]:
    """Calls the function at the first of these words with the `count` others.

    Compiled code reads them from memory in no time; ctypes converts every one on its way.
    """
    loads = [
        f"%p{i} = getelementptr i64, ptr %words, i64 {i}\n%a{i} = load i64, ptr %p{i}"
        for i in range(1, count + 1)
    ]
    call = ", ".join(f"i64 %a{i}" for i in range(1, count + 1))
    lines = ("%f = load ptr, ptr %words", *loads, f"call void %f({call})", "ret void")
    text = "define void @enter(ptr %words) {\n" + "\n".join(lines) + "\n}"
    compiled = compile_function(text, ("words",))
    return ctypes.CFUNCTYPE(None, ctypes.c_char_p)(compiled.address)


@cache
def _engine() -> Any:
    """Owner of all machine code, for the life of the process, and the processor it is for."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine()), _machine()


def _machine() -> Any:
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )
