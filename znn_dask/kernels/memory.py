"""Aligned arrays from a pool that reuses freed memory.

Fresh pages cost as much as the arithmetic done on them: the system hands them out one fault at a
time and zeroed. So blocks return to a process-wide pool when the last array that looks into them is
gone, and the next array of about that size takes them over. Nothing is freed explicitly.
"""

import math
import mmap
import os
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector register."""

_SMALLEST = 1 << 14  # below this numpy's own allocator already reuses memory
_HUGE_PAGE = 1 << 21

# Deques, not locks: a block may come back at any instruction of any thread, even while that thread
# is inside `empty` (garbage collection), so a lock here could deadlock. append and pop are atomic.
_free: dict[int, deque["_Block"]] = {}


def _default_limit() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


_limit = _default_limit()


class _Block:
    """One anonymous memory mapping of `size` bytes whose first usable byte is at `address`."""

    __slots__ = ("address", "mapping", "size")

    def __init__(self, size: int) -> None:
        huge = size >= _HUGE_PAGE
        # Private: shared anonymous memory would get no huge pages.
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self.mapping = mmap.mmap(-1, size + (_HUGE_PAGE if huge else 0), flags=private)
        if huge and hasattr(mmap, "MADV_HUGEPAGE"):
            self.mapping.madvise(mmap.MADV_HUGEPAGE)
        address = np.frombuffer(self.mapping, np.uint8).ctypes.data
        self.address = -(-address // _HUGE_PAGE) * _HUGE_PAGE if huge else address
        self.size = size


class _Loan:
    """Owner of a block on behalf of one array: gives the block back when the array is gone."""

    __slots__ = ("__array_interface__", "block")

    def __init__(self, block: _Block, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.block = block
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (block.address, False),
        }

    def __del__(self) -> None:
        block = self.block
        if block.size < _HUGE_PAGE or retained_bytes() + block.size <= _limit:
            _free[block.size].append(block)


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """C-contiguous array of `shape` at a 64-byte boundary, contents arbitrary."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < _SMALLEST:
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + nbytes].view(dtype).reshape(shape)
    size = _size_class(nbytes)
    blocks = _free.get(size)
    if blocks is None:
        blocks = _free.setdefault(size, deque())
    try:
        block = blocks.pop()
    except IndexError:
        block = _Block(size)
    return np.asarray(_Loan(block, shape, dtype))


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """C-contiguous array of `shape` at a 64-byte boundary, filled with zeros."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def is_aligned(array: np.ndarray) -> bool:
    """Whether `array` is C-contiguous and starts at a 64-byte boundary."""
    return array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0


def aligned(array: np.ndarray) -> np.ndarray:
    """`array` itself where it is C-contiguous and aligned, else a copy that is."""
    return array if is_aligned(array) else aligned_copy(array)


def aligned_copy(array: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """C-contiguous copy of `array` at a 64-byte boundary, of `dtype` or as it is."""
    copy = empty(array.shape, array.dtype if dtype is None else dtype)
    copy[...] = array
    return copy


def retained_bytes() -> int:
    """Bytes of free blocks that the pool keeps for later arrays."""
    return sum(size * len(blocks) for size, blocks in tuple(_free.items()))


def set_limit(limit: int) -> None:
    """Keep at most about `limit` bytes of free blocks (default: a quarter of physical memory)."""
    global _limit
    _limit = limit
    trim(limit)


def trim(limit: int = 0) -> None:
    """Give free blocks back to the system, largest first, until at most `limit` bytes remain."""
    for size in sorted(_free, reverse=True):
        while retained_bytes() > limit:
            try:
                _free[size].pop()
            except IndexError:
                break


def _size_class(nbytes: int) -> int:
    """`nbytes` rounded up to a multiple of an eighth of the power of two below it."""
    step = max(1 << (nbytes.bit_length() - 4), mmap.PAGESIZE)
    return -(-nbytes // step) * step
