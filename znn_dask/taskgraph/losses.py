"""Loss records on their way from the loss task to the driver."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from znn_dask.taskgraph.rule import Job


@dataclass(frozen=True)
class LossRecord:
    """Loss of one patch or several: sums over voxels and channels, and how many of them counted."""

    step: int
    value: float
    wrong: float
    elements: float

    @property
    def loss(self) -> float:
        """Mean loss of what counted."""
        return self.value / max(1.0, self.elements)

    @property
    def error(self) -> float:
        """Share of what counted that is on the wrong side."""
        return self.wrong / max(1.0, self.elements)


def total(step: int, records: Iterable[LossRecord]) -> LossRecord:
    """The record of all these patches together."""
    patches = list(records)
    return LossRecord(
        step,
        sum(patch.value for patch in patches),
        sum(patch.wrong for patch in patches),
        sum(patch.elements for patch in patches),
    )


def per_step(records: Iterable[LossRecord]) -> Iterator[LossRecord]:
    """One record for each step, of all patches of its batch; `records` in order of their steps."""
    for step, batch in itertools.groupby(records, key=lambda record: record.step):
        yield total(step, batch)


@dataclass
class PendingLosses:
    """Records that the loss task of a pass fills in."""

    records: list[LossRecord] = field(default_factory=list)
    job: Job | None = None
