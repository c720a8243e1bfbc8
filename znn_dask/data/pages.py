"""Slices that can only be decoded whole, for readers that want boxes of them."""

import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from znn_dask.data.reader import Box

HELD_BYTES = 64 * 2**20  # decoded slices beyond that go to a file

Decode = Callable[[tuple[int, ...], NDArray[Any]], None]


class Pages:
    """Boxes (*outer, *page) of pages that `decode(index, out)` writes into an array.

    The pages of the last box stay decoded, so that boxes beside it cost nothing: in memory while
    they are few, else in a file without a name in `scratch`, which is mapped page by page and does
    not count as memory of the process.
    """

    def __init__(
        self,
        outer: tuple[int, ...],
        page: tuple[int, ...],
        dtype: np.dtype[Any],
        decode: Decode,
        scratch: Path | None = None,
    ) -> None:
        self.outer, self.page, self.dtype = outer, page, np.dtype(dtype)
        self.decode, self.scratch = decode, scratch
        self._held: tuple[range, ...] | None = None
        self._memory: NDArray[Any] | None = None
        self._file: Any = None

    def read(self, box: Box) -> NDArray[Any]:
        """Voxels of a box, a copy."""
        ranges = tuple(range(s.start, s.stop) for s in box[: len(self.outer)])
        if ranges != self._held:
            self._held = None
            self._decode(ranges)
            self._held = ranges
        inner = box[len(self.outer) :]
        out = np.empty(
            (math.prod(map(len, ranges)), *(s.stop - s.start for s in inner)), self.dtype
        )
        for number in range(len(out)):
            out[number] = self._page(number)[inner]
        return out.reshape(*map(len, ranges), *out.shape[1:])

    def _decode(self, ranges: tuple[range, ...]) -> None:
        count, size = math.prod(map(len, ranges)), math.prod(self.page) * self.dtype.itemsize
        self._memory = None
        if count * size <= HELD_BYTES:
            self._memory = np.empty((count, *self.page), self.dtype)
        else:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self.scratch)  # noqa: SIM115
            self._file.truncate(count * size)
        for number, index in enumerate(itertools.product(*ranges)):
            self.decode(index, self._page(number))

    def _page(self, number: int) -> NDArray[Any]:
        if self._memory is not None:
            return self._memory[number]
        # Mapped anew for every page: those before it do not stay counted as ours.
        offset = number * math.prod(self.page) * self.dtype.itemsize
        return np.memmap(self._file, self.dtype, "r+", offset, self.page)

    def close(self) -> None:
        """Free what is held."""
        self._held = self._memory = None
        if self._file is not None:
            self._file.close()
            self._file = None
