"""Decoded chunks kept in memory, so that loading a patch costs a copy and not a decompression."""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from znn_dask.kernels.geometry import Box

WHOLE_BYTES = 512 * 2**20  # the volumes of a sampler stay decoded if they take less
CAPACITY_BYTES = 2**30


class ByteLRU:
    """Least recently used arrays up to a number of bytes; each is loaded once, by one thread."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, Future[NDArray[Any]]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, load: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of `key`, loaded now if absent; the caller must not write into it."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            else:
                mine: Future[NDArray[Any]] = Future()
                self._entries[key] = mine
        if entry is not None:
            return entry.result()
        try:
            array = load()
        except BaseException as error:
            with self._lock:
                self._entries.pop(key, None)
            mine.set_exception(error)
            raise
        array.flags.writeable = False
        mine.set_result(array)
        with self._lock:
            self._bytes += array.nbytes
            self._shrink(keep=key)
        return array

    def _shrink(self, keep: Hashable) -> None:
        for key in list(self._entries):
            if self._bytes <= self.capacity:
                return
            if key != keep and self._entries[key].done():
                self._bytes -= self._entries.pop(key).result().nbytes

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._bytes


# One per process: samplers that are unpickled for every task must find what the last one decoded.
_DECODED = ByteLRU(CAPACITY_BYTES)


class CachedArray:
    """Reads boxes of a Zarr array through the process-wide cache.

    `token` names the content: a new token never sees chunks that were decoded for another.
    """

    def __init__(self, array: zarr.Array, token: str, *, whole: bool) -> None:
        self.array = array
        self.token = token
        self.whole = whole
        self.shape = tuple(array.shape)
        self.chunks = tuple(array.chunks)

    def read(self, box: Box) -> NDArray[Any]:
        """Voxels (..., z, y, x) of a box within the array; read-only, maybe a view."""
        if self.whole:
            key = (self.token, self.array.path, "whole")
            return _DECODED.get(key, lambda: np.asarray(self.array[...]))[(..., *box)]
        full = (*(slice(0, n) for n in self.shape[:-3]), *box)
        out = np.empty([b.stop - b.start for b in full], self.array.dtype)
        spans = [
            range(b.start // c, -(-b.stop // c)) for b, c in zip(full, self.chunks, strict=True)
        ]
        for index in itertools.product(*spans):
            origin = [i * c for i, c in zip(index, self.chunks, strict=True)]
            chunk = self._chunk(index, origin)
            low = [max(b.start, o) for b, o in zip(full, origin, strict=True)]
            high = [min(b.stop, o + n) for b, o, n in zip(full, origin, chunk.shape, strict=True)]
            into = tuple(
                slice(a - b.start, z - b.start) for a, z, b in zip(low, high, full, strict=True)
            )
            part = tuple(slice(a - o, z - o) for a, z, o in zip(low, high, origin, strict=True))
            out[into] = chunk[part]
        return out

    def _chunk(self, index: tuple[int, ...], origin: list[int]) -> NDArray[Any]:
        box = tuple(
            slice(o, min(o + c, n)) for o, c, n in zip(origin, self.chunks, self.shape, strict=True)
        )
        return _DECODED.get(
            (self.token, self.array.path, index), lambda: np.asarray(self.array[box])
        )
