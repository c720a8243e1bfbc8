"""Gradients of the parameters: usable at once, filled by the jobs of the backward pass."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from znn_dask.kernels import memory
from znn_dask.taskgraph.engine import wait
from znn_dask.taskgraph.losses import PendingLosses
from znn_dask.taskgraph.rule import Job
from znn_dask.taskgraph.tasks import TaskId


@dataclass
class Gradients:
    """dE/d(parameter) in the kernels' layout, with the jobs that still fill them.

    `kernels`: conv edge group -> (kz, ky, kx, in, out); `biases`: node group -> (n,); `nbytes`: of
    all of them, there yet or not; `losses`: of the patches behind them.
    """

    kernels: dict[str, np.ndarray]
    biases: dict[str, np.ndarray]
    nbytes: int
    jobs: dict[TaskId, Job] = field(default_factory=dict)
    losses: tuple[PendingLosses, ...] = ()

    def __sizeof__(self) -> int:
        return self.nbytes  # Dask asks while jobs still fill them

    def __reduce__(self) -> tuple[Any, ...]:
        wait(self.jobs.values())
        records = tuple(PendingLosses(pending.records) for pending in self.losses)
        return _arrive, (self.kernels, self.biases, self.nbytes, records)


def _arrive(
    kernels: dict[str, np.ndarray],
    biases: dict[str, np.ndarray],
    nbytes: int,
    losses: tuple[PendingLosses, ...],
) -> Gradients:
    return Gradients(
        {name: memory.aligned_copy(v) for name, v in kernels.items()},
        {name: memory.aligned_copy(v) for name, v in biases.items()},
        nbytes,
        losses=losses,
    )
