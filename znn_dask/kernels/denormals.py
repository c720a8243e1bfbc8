"""Numbers too small for a full mantissa: taken as zero, because processors stumble over them.

An operation with a denormal number takes a hundred times as long as another. Gradients fade into
such numbers, and so does whatever lies in the unused lanes of a register. The choice is the
thread's, and part of what decides the bits: all typed tasks run with denormals flushed.
"""

import ctypes
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from znn_dask.kernels.jit import compile_function

# The processor's control word: what reads it, what writes it, and the bits that flush.
_X86 = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define void @exchange(i64 %new, i64 %old) {
  %word = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %word)
  %value = load i32, ptr %word
  %wide = zext i32 %value to i64
  %out = inttoptr i64 %old to ptr
  store i64 %wide, ptr %out
  %narrow = trunc i64 %new to i32
  store i32 %narrow, ptr %word
  call void @llvm.x86.sse.ldmxcsr(ptr %word)
  ret void
}
"""
_ARM = """
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)
define void @exchange(i64 %new, i64 %old) {
  %value = call i64 @llvm.aarch64.get.fpcr()
  %out = inttoptr i64 %old to ptr
  store i64 %value, ptr %out
  call void @llvm.aarch64.set.fpcr(i64 %new)
  ret void
}
"""
_X86_DEFAULT, _X86_FLUSH = 0x1F80, 0x8040  # all exceptions masked; flush to zero, inputs as zero
_ARM_FLUSH = 1 << 24


def flush_denormals() -> None:
    """From now on this thread takes denormal numbers as zero, and rounds them to it."""
    exchange, flushing = _control()
    exchange(flushing)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """The same inside the block; then as before."""
    exchange, flushing = _control()
    before = exchange(flushing)
    try:
        yield
    finally:
        exchange(before)


@cache
def _control() -> tuple[Callable[[int], int], int]:
    """(sets this thread's control word and returns what it was, the word that flushes)."""
    arm = platform.machine() in ("aarch64", "arm64")
    compiled = compile_function(_ARM if arm else _X86, ("new", "old"))

    def exchange(word: int) -> int:
        before = ctypes.c_int64()
        compiled(new=word, old=ctypes.addressof(before))
        return before.value

    return exchange, _ARM_FLUSH if arm else _X86_DEFAULT | _X86_FLUSH
