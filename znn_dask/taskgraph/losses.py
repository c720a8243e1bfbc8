"""Loss records on their way from the loss task to the driver."""

from dataclasses import dataclass, field

from znn_dask.taskgraph.rule import Job


@dataclass(frozen=True)
class LossRecord:
    """Loss of one patch: sums over its voxels and channels, and how many of them counted."""

    step: int
    value: float
    wrong: float
    elements: float


@dataclass
class PendingLosses:
    """Records that the loss task of a pass fills in."""

    records: list[LossRecord] = field(default_factory=list)
    job: Job | None = None
