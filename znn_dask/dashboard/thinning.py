"""A curve of bounded length, however many points it is made of."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

Points = dict[str, list[Any]]
"""A curve as it travels: as many numbers under "step" (int) as under "loss" (float)."""


class ThinCurve:
    """Means over equally many points each; where there would be too many, neighbours are joined.

    The value of a mean stands at the last of its steps.

    Parameters
    ----------
    most
        Means that are kept, an even number; there are at least half as many as soon as there were
        as many points.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._width = 1  # points in a mean
        self._steps: list[int] = []
        self._sums: list[float] = []
        self._left = 0  # points that the last mean lacks

    def append(self, step: int, value: float) -> None:
        """Add a point behind the others."""
        if self._left:
            self._steps[-1] = step
            self._sums[-1] += value
            self._left -= 1
            return
        if len(self._steps) == self._most:
            self._join()
        self._steps.append(step)
        self._sums.append(value)
        self._left = self._width - 1

    def points(self) -> Points:
        """The means, in order."""
        values = [total / self._width for total in self._sums]
        if self._sums:
            values[-1] = self._sums[-1] / (self._width - self._left)
        return {"step": list(self._steps), "loss": values}

    def _join(self) -> None:
        self._steps = self._steps[1::2]
        self._sums = [a + b for a, b in zip(self._sums[::2], self._sums[1::2], strict=True)]
        self._width *= 2


def smooth(values: Sequence[float], reach: int) -> list[float]:
    """Means of each value and up to `reach` on either side."""
    sums = [0.0, *accumulate(values)]
    ends = ((max(0, i - reach), min(len(values), i + reach + 1)) for i in range(len(values)))
    return [(sums[stop] - sums[start]) / (stop - start) for start, stop in ends]
