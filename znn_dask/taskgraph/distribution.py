"""A plan over a batch of patches on several workers: who computes what, and what the exchange adds.

Patches are spread evenly, neighbours on one worker; a worker computes its patches at once, then
gradients travel and every worker makes the same update (`cluster_schedule.py`).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from znn_dask.taskgraph.arithmetic import PlanError
from znn_dask.taskgraph.cluster_schedule import (
    ClusterSchedule,
    ReplicaCost,
    replica_cost,
    simulate_cluster,
)
from znn_dask.taskgraph.plan import Plan
from znn_dask.taskgraph.schedule import Schedule


@dataclass(frozen=True)
class Distribution:
    """How the updates of a plan run on its workers.

    Attributes
    ----------
    plan
        Of one patch.
    patches
        Patches of each worker's share of a batch.
    """

    plan: Plan
    patches: tuple[int, ...]

    @property
    def batch(self) -> int:
        """Patches of one update."""
        return sum(self.patches)

    @cached_property
    def schedule(self) -> Schedule:
        """The busiest worker's."""
        if max(self.patches) == 1:
            return self.plan.schedule
        return self.plan.schedule_of(max(self.patches))

    @cached_property
    def _cost(self) -> ReplicaCost:
        return replica_cost(self.plan, self.plan.machine)

    @cached_property
    def _cluster(self) -> ClusterSchedule | None:
        """None where no gradients travel."""
        workers = len(self.patches)
        if workers == 1 or not self.plan.training:
            return None
        threads = [self.plan.threads] * workers
        return simulate_cluster(self._cost, threads, self.patches, self.plan.machine)

    @cached_property
    def step_seconds(self) -> float:
        """Predicted seconds of an update (or of a pass forward), exchange included."""
        if self._cluster is not None:
            return self._cluster.step_seconds
        return self.plan.update_seconds if self.batch == 1 else self.schedule.step_seconds

    @property
    def exchange_seconds(self) -> float:
        """What of them is due to gradients and kernels that travel."""
        if self._cluster is None:
            return 0.0
        return max(0.0, self._cluster.step_seconds - self._cluster.compute_seconds)

    @property
    def moved_bytes(self) -> int:
        """Between workers, for an update."""
        return 0 if self._cluster is None else self._cluster.moved_bytes

    @property
    def efficiency(self) -> float:
        """Share of all threads' time that is work."""
        cost, workers = self._cost, len(self.patches)
        work = self.batch * (cost.forward + cost.backward) + workers * cost.update
        return work / (workers * self.plan.threads * self.step_seconds)

    @property
    def granule(self) -> str:
        """What one Dask task holds."""
        steps = self.plan.steps_per_granule
        if not steps:
            return "a forward or backward pass of a patch, or an update"
        if len(self.patches) == 1:
            return f"{steps} update{'s' * (steps > 1)}"
        return "a worker's share of an update"

    def placement(self) -> list[tuple[int, int]]:
        """(first, last) patch of each worker."""
        firsts = [sum(self.patches[:i]) for i in range(len(self.patches))]
        return [(a, a + n - 1) for a, n in zip(firsts, self.patches, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, those of the plan included."""
        predicted = "predicted_update_s" if self.plan.training else "predicted_forward_s"
        return self.plan.to_dict() | {
            predicted: self.step_seconds,
            "bound_s": self.schedule.bound,
            "over_bound": self.schedule.over_bound,
            "critical_path_s": self.schedule.critical_path,
            "work_s": self.schedule.work,
            "forced_tasks": self.schedule.forced,
            "efficiency": self.efficiency,
            "batch": self.batch,
            "placement": self.placement(),
            "exchange_s": self.exchange_seconds,
            "moved_bytes": self.moved_bytes,
            "granule": self.granule,
        }


def shares(workers: int, batch: int | None = None) -> tuple[int, ...]:
    """Patches of each worker, as even as can be; a patch for each when `batch` is not given.

    Raises PlanError if there are fewer patches than workers.
    """
    batch = workers if batch is None else batch
    if batch < workers:
        raise PlanError(
            f"{workers} workers, but a batch of {batch}: give each worker at least one patch"
        )
    each, more = divmod(batch, workers)
    return tuple(each + (worker < more) for worker in range(workers))


def distribute(plan: Plan, batch: int | None = None) -> Distribution:
    """The plan's workers with their patches; raises PlanError as `shares`."""
    patches = shares(plan.workers, batch)
    return Distribution(replace(plan, patches=max(patches)), patches)
