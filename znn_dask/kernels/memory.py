"""Aligned arrays from a pool that reuses freed memory.

Fresh pages cost as much as the arithmetic done on them: the system hands them out one fault at a
time and zeroed. So ranges return to a process-wide pool when the last array that looks into them is
gone. The next array of that very size takes them over while they are still in cache. When there is
none, the pool grows as long as it is little above the most bytes that were ever in use at a time.
Else neighbours are merged and the smallest hole that is enough is used; where none is, fresh pages
are, and the largest holes give theirs back. Nothing is freed explicitly.
"""

import math
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

from znn_dask.kernels.holes import Holes

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector register."""

_SMALLEST = 1 << 14  # below this numpy's own allocator already reuses memory
_HUGE_PAGE = 1 << 21
_CHUNK = 1 << 28  # address space asked for at a time; pages come when they are touched

SPARE_SHARE = 1 / 8
SPARE_BYTES = 1 << 22
"""The pool may be larger than the most bytes ever in use by this share of them and these bytes."""


# Deques, not locks: a range may come back at any instruction of any thread, even while that thread
# is inside `empty` (garbage collection), so a lock there could deadlock. append and pop are atomic.
_free: dict[int, deque[int]] = {}  # size -> starts, the last freed last
_given_back: deque[tuple[int, int]] = deque()  # (start, size) whose pages the system has again

_sizing = threading.local()

_lock = threading.Lock()  # guards what follows
_used = Holes()  # has been used: its pages are there
_fresh = Holes()
_chunks: list[tuple[int, mmap.mmap]] = []  # (address, mapping)
_most_lent = 0


def _default_limit() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


_limit = _default_limit()


class _Loan:
    """Owner of a range on behalf of one array: gives it back when the array is gone."""

    __slots__ = ("__array_interface__", "size", "start")

    def __init__(self, start: int, size: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.start, self.size = start, size
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (start, False),
        }

    def __del__(self) -> None:
        if self.size >= _HUGE_PAGE and retained_bytes() + self.size > _limit:
            _give_back(self.start, self.size)
            _given_back.append((self.start, self.size))
        else:
            _free[self.size].append(self.start)


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """C-contiguous array of `shape` at a 64-byte boundary, contents arbitrary."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if hasattr(_sizing, "bytes"):
        _sizing.bytes += nbytes
        return _stand_in(shape, dtype)
    if nbytes < _SMALLEST:
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + nbytes].view(dtype).reshape(shape)
    size = pool_bytes(nbytes)
    blocks = _free.get(size)
    if blocks is None:
        blocks = _free.setdefault(size, deque())
    try:
        start = blocks.pop()
    except IndexError:
        start = _find(size)
    return np.asarray(_Loan(start, size, shape, dtype))


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """C-contiguous array of `shape` at a 64-byte boundary, filled with zeros."""
    array = empty(shape, dtype)
    if not hasattr(_sizing, "bytes"):
        array.fill(0)
    return array


def is_aligned(array: np.ndarray) -> bool:
    """Whether `array` is C-contiguous and starts at a 64-byte boundary."""
    return array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0


def aligned(array: np.ndarray) -> np.ndarray:
    """`array` itself where it is C-contiguous and aligned, else a copy that is."""
    return array if is_aligned(array) else aligned_copy(array)


def steps(array: np.ndarray) -> tuple[int, ...]:
    """Strides in elements, as compiled loops count them."""
    return tuple(stride // array.itemsize for stride in array.strides)


def aligned_copy(array: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """C-contiguous copy of `array` at a 64-byte boundary, of `dtype` or as it is."""
    copy = empty(array.shape, array.dtype if dtype is None else dtype)
    copy[...] = array
    return copy


def pool_bytes(nbytes: int) -> int:
    """Bytes that an array of `nbytes` takes: whole pages."""
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE


def requested_bytes(allocate: Callable[[], object]) -> int:
    """Bytes of the arrays that `allocate` asks for. It must not touch them: they are not there."""
    _sizing.bytes = 0
    try:
        allocate()
        return int(_sizing.bytes)
    finally:
        del _sizing.bytes


def retained_bytes() -> int:
    """Bytes of free memory that the pool keeps for later arrays."""
    return _used.total + sum(size * len(starts) for size, starts in tuple(_free.items()))


def lent_bytes() -> int:
    """Bytes of memory that arrays use now."""
    with _lock:
        _collect()
        return _touched() - _used.total


def set_limit(limit: int) -> None:
    """Keep at most about `limit` bytes of free memory (default: a quarter of the physical)."""
    global _limit
    _limit = limit
    trim(limit)


def trim(limit: int = 0) -> None:
    """Give free memory back to the system, largest first, until at most `limit` bytes remain."""
    global _most_lent
    with _lock:
        _collect()
        while _used.total > limit:
            start, size = _used.take_largest()
            _give_back(start, size)
            _fresh.add(start, size)
        _most_lent = _touched() - _used.total


def _stand_in(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """An array with the strides of a C-contiguous one, over a few bytes; it must not be touched."""
    strides = [math.prod(shape[axis + 1 :]) * dtype.itemsize for axis in range(len(shape))]
    return as_strided(np.zeros(1, dtype), shape, strides)


def _find(size: int) -> int:
    """Start of `size` bytes that no array uses."""
    global _most_lent
    with _lock:
        start = _used.take(size)
        if start is not None:
            return start
        _most_lent = max(_most_lent, _touched() - retained_bytes() + size)
        allowed = round((1 + SPARE_SHARE) * _most_lent) + SPARE_BYTES
        if _touched() + size > allowed:
            _collect()
            start = _used.take(size)
            if start is not None:
                return start
        start = _grow(size)
        while _touched() > allowed and _used.total and _release_largest():
            pass
        return start


def _touched() -> int:
    """Bytes that are in use or were, and whose pages are still there."""
    return sum(len(mapping) - _HUGE_PAGE for _, mapping in _chunks) - _fresh.total


def _grow(size: int) -> int:
    """Start of `size` bytes of which some are fresh."""
    # Pages that are there come first, those behind them next: growth is what is missing.
    if (hole := _used.take_before(_fresh, size)) is not None:
        start, own = hole
        _fresh.take_at(start + own, size - own)
        return start
    if (found := _fresh.take(size)) is not None:
        return found
    _map(max(_CHUNK, size))
    found = _fresh.take(size)
    assert found is not None
    return found


def _release_largest() -> bool:
    """Give the whole huge pages of the largest hole back; False where it has none."""
    start, size = _used.take_largest()
    first = -(-start // _HUGE_PAGE) * _HUGE_PAGE
    last = (start + size) // _HUGE_PAGE * _HUGE_PAGE
    if first >= last:
        _used.add(start, size)
        return False
    _give_back(first, last - first)
    _fresh.add(first, last - first)
    for edge, end in ((start, first), (last, start + size)):
        if end > edge:
            _used.add(edge, end - edge)
    return True


def _collect() -> None:
    """Make holes of all that has come back."""
    for size, starts in tuple(_free.items()):
        while starts:
            _used.add(starts.pop(), size)
    while _given_back:
        _fresh.add(*_given_back.popleft())


def _map(size: int) -> None:
    """Address space for `size` bytes and more, in huge pages where the system has them."""
    # Private: shared anonymous memory would get no huge pages.
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    mapping = mmap.mmap(-1, size + _HUGE_PAGE, flags=private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    address = np.frombuffer(mapping, np.uint8).ctypes.data
    _chunks.append((address, mapping))
    _fresh.add(-(-address // _HUGE_PAGE) * _HUGE_PAGE, size)


def _give_back(start: int, size: int) -> None:
    """Let the system have the pages of a range; the addresses stay ours."""
    for address, mapping in tuple(_chunks):
        if address <= start < address + len(mapping):
            mapping.madvise(mmap.MADV_DONTNEED, start - address, size)
