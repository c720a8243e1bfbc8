"""Free ranges of memory as numbers: neighbours merge, the smallest that is enough is taken."""

from bisect import bisect_left, insort


class Holes:
    """Disjoint ranges of addresses; ranges that touch are one.

    Attributes
    ----------
    total
        Bytes of all ranges together.
    """

    def __init__(self) -> None:
        self.total = 0
        self._sizes: list[tuple[int, int]] = []  # (size, start), sorted
        self._at: dict[int, int] = {}  # start -> size
        self._ends: dict[int, int] = {}  # end -> start

    def add(self, start: int, size: int) -> None:
        """A range that is free from now on."""
        self.total += size
        if (after := self._at.get(start + size)) is not None:
            self._forget(start + size, after)
            size += after
        if (before := self._ends.get(start)) is not None:
            self._forget(before, start - before)
            start, size = before, size + start - before
        self._remember(start, size)

    def take(self, size: int) -> int | None:
        """Start of `size` bytes of the smallest range that is enough, which are free no longer."""
        i = bisect_left(self._sizes, (size, 0))
        if i == len(self._sizes):
            return None
        found, start = self._sizes[i]
        self._forget(start, found)
        if found > size:
            self._remember(start + size, found - size)
        self.total -= size
        return start

    def take_largest(self) -> tuple[int, int]:
        """(start, size) of the largest range, free no longer. IndexError if all is used."""
        size, start = self._sizes[-1]
        self._forget(start, size)
        self.total -= size
        return start, size

    def take_before(self, others: "Holes", size: int) -> tuple[int, int] | None:
        """(start, own size) of the range that, with the range of `others` right behind it, is
        enough for `size` bytes and needs the fewest of `others`; free no longer."""
        for own, start in reversed(self._sizes):
            if own + others._at.get(start + own, 0) >= size:
                self._forget(start, own)
                self.total -= own
                return start, own
        return None

    def take_at(self, start: int, size: int) -> None:
        """Take the first `size` bytes of the range that begins at `start`."""
        found = self._at[start]
        self._forget(start, found)
        if found > size:
            self._remember(start + size, found - size)
        self.total -= size

    def _remember(self, start: int, size: int) -> None:
        insort(self._sizes, (size, start))
        self._at[start] = size
        self._ends[start + size] = start

    def _forget(self, start: int, size: int) -> None:
        del self._sizes[bisect_left(self._sizes, (size, start))]
        del self._at[start]
        del self._ends[start + size]
