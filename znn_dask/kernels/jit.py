"""LLVM as a compiler in the process, and the functions that it makes."""

import ctypes
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

import llvmlite.binding as llvm

_compiling = threading.Lock()


class Compiled:
    """A function of named 64-bit integers. It runs without the interpreter's lock."""

    def __init__(self, address: int, arguments: Sequence[str]) -> None:
        self.address = address
        self._arguments = tuple(arguments)
        self._function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(arguments))(address)

    def __call__(self, **arguments: int) -> None:
        if arguments.keys() != set(self._arguments):
            raise TypeError(f"arguments {set(arguments) ^ set(self._arguments)} do not fit")
        self._function(*(arguments[name] for name in self._arguments))


@cache
def vector_bytes() -> int:
    """Bytes of the widest registers here."""
    return 64 if llvm.get_host_cpu_features().get("avx512f") else 32


@cache
def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return _new_machine()


def _new_machine() -> Any:
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )


@cache
def _engine() -> Any:
    """Owner of all machine code, for the life of the process."""
    machine = _machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _new_machine()), machine


def compile_function(text: str, name: str) -> int:
    """Address of function `name` of a module in LLVM's language, optimised for this processor."""
    with _compiling:
        return _compile(text, name)


def _compile(text: str, name: str) -> int:
    engine, machine = _engine()
    module = llvm.parse_assembly(text)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    llvm.create_pass_builder(machine, options).getModulePassManager().run(
        module, llvm.create_pass_builder(machine, options)
    )
    engine.add_module(module)
    engine.finalize_object()
    return int(engine.get_function_address(name))
