"""Learning curve: what training and validation measured at which step, and when to stop early."""

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np

_BARS = "▁▂▃▄▅▆▇█"

COLUMNS = ("step", "loss", "error", "seconds")


class Point(NamedTuple):
    """One measurement.

    ``step``: updates finished; ``loss``: mean loss per output value; ``error``: fraction of output
    values that are misclassified; ``seconds``: training time since the first step.
    """

    step: int
    loss: float
    error: float
    seconds: float


class Series:
    """Measurements in order of their step, kept as compact columns."""

    def __init__(self) -> None:
        self._steps = array("q")
        self._values = tuple(array("d") for _ in COLUMNS[1:])

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> Point:
        loss, error, seconds = (column[index] for column in self._values)
        return Point(self._steps[index], loss, error, seconds)

    def __iter__(self) -> Iterator[Point]:
        return (Point(*row) for row in zip(self._steps, *self._values, strict=True))

    def append(self, step: int, loss: float, error: float, seconds: float) -> None:
        """Add a measurement; its step must follow that of the last one.

        Raises:
            ValueError: the step is negative or not after the last one.
        """
        last = self._steps[-1] if self._steps else -1
        if step <= last:
            raise ValueError(
                f"learning curve: step {step} does not follow step {last}; truncate the curve first"
            )
        self._steps.append(step)
        for column, value in zip(self._values, (loss, error, seconds), strict=True):
            column.append(value)

    def truncate(self, step: int) -> None:
        """Forget everything after ``step``."""
        count = int(np.searchsorted(self.column("step"), step, side="right"))
        del self._steps[count:]
        for column in self._values:
            del column[count:]

    def column(self, name: str) -> np.ndarray:
        """Copy of one column, (n,): ``step`` int64, all others float64."""
        if name == "step":
            return np.array(self._steps, np.int64)
        return np.array(self._values[COLUMNS.index(name) - 1], np.float64)


@dataclass
class LearningCurve:
    """Curves of one training: ``train`` (every reported update) and ``validation``."""

    train: Series = field(default_factory=Series)
    validation: Series = field(default_factory=Series)

    def __repr__(self) -> str:
        if not self.train:
            return "LearningCurve: no updates yet"
        last, best = self.train[-1], self.best()
        held_out = f"; best validation {best.loss:.4g} at {best.step:,}" if best else ""
        line = sparkline(self.train.column("loss"))
        return f"LearningCurve: {last.step:,} updates, loss {line} {last.loss:.4g}{held_out}"

    def truncate(self, step: int) -> None:
        """Forget everything after ``step``: those updates will be made again."""
        self.train.truncate(step)
        self.validation.truncate(step)

    def validated_at(self, step: int) -> float | None:
        """Validation loss measured at ``step``, None when there was no (finite) one."""
        found = [point.loss for point in self.validation if point.step == step]
        return found[0] if found and math.isfinite(found[0]) else None

    def best(self) -> Point | None:
        """Validation point of least loss, the first one of several; None without validation."""
        finite = [point for point in self.validation if math.isfinite(point.loss)]
        return min(finite, key=lambda point: (point.loss, point.step), default=None)

    def stalled(self, patience: int) -> bool:
        """Whether the last ``patience`` validations brought no improvement; never if it is 0."""
        return patience > 0 and should_stop([point.loss for point in self.validation], patience)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Columns by name, ``train_step`` (n,) int64, ``train_loss`` (n,) float64 and so on."""
        return {
            f"{name}_{column}": series.column(column)
            for name, series in (("train", self.train), ("validation", self.validation))
            for column in COLUMNS
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Inverse of `to_arrays`.

        Raises:
            ValueError: a column is missing, or columns of one series differ in length.
        """
        curve = cls()
        for name, series in (("train", curve.train), ("validation", curve.validation)):
            keys = [f"{name}_{column}" for column in COLUMNS]
            missing = [key for key in keys if key not in arrays]
            if missing:
                raise ValueError(f"learning curve: column {missing[0]} is missing")
            for step, *values in zip(*(arrays[key].tolist() for key in keys), strict=True):
                series.append(step, *values)
        return curve

    def to_json(self) -> dict[str, dict[str, list[Any]]]:
        """{"train": {"step": [...], ...}, "validation": ...}; None where a value is not finite."""
        return {
            name: {
                column: [
                    value if math.isfinite(value) else None
                    for value in series.column(column).tolist()
                ]
                for column in COLUMNS
            }
            for name, series in (("train", self.train), ("validation", self.validation))
        }


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Centred moving mean over ``width`` points, fewer at the ends and where some are not finite.

    Args:
        values: (n,).
        width: odd number of points; 1 changes nothing.

    Returns:
        (n,) float64; NaN where no value in reach is finite.
    """
    half = width // 2
    finite = np.isfinite(values)
    # Sums up to each point; a window is a difference of two of them.
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0), dtype=np.float64)])
    counts = np.concatenate([[0], np.cumsum(finite)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    number = counts[high] - counts[low]
    mean = (sums[high] - sums[low]) / np.maximum(number, 1)
    return np.where(number > 0, mean, np.nan)


def sparkline(values: np.ndarray, width: int = 16) -> str:
    """Means of (n,) values in order, as at most ``width`` bars of text from zero up."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ""
    means = np.array([part.mean() for part in np.array_split(finite, min(width, len(finite)))])
    top = max(float(means.max()), 1e-30)
    bars = np.clip((means / top * len(_BARS)).astype(int), 0, len(_BARS) - 1)
    return "".join(_BARS[bar] for bar in bars)


def should_stop(losses: Sequence[float], patience: int) -> bool:
    """Early stopping: whether the last ``patience`` validations brought no improvement.

    Args:
        losses: validation losses in order; one that is not finite is no improvement.
        patience: validations to wait for a loss below the best one so far, at least 1.

    Raises:
        ValueError: ``patience`` below 1.
    """
    if patience < 1:
        raise ValueError(f"early stopping: patience must be at least 1, got {patience}")
    best, waited = math.inf, 0
    for loss in losses:
        if loss < best:
            best, waited = loss, 0
        else:
            waited += 1
    return waited >= patience
