"""The cluster's schedule: a discrete-event simulation of granules on slots, links and a scheduler.

`schedule.py` simulates typed tasks on the threads of one worker. Here its result is one number, the
seconds of a patch, and what is simulated is what lies between workers:

    granule done ─> scheduler (one at a time) ─> message ─> fetch what is elsewhere ─> granule runs
                     granule_seconds              hop        bytes, over the links of both workers

The granules are those that a session would send, so placements and exchanges that are not there yet
can be compared, and machines that one does not have.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from znn_dask.taskgraph.granules import Granule, Key, Names, training_segment
from znn_dask.taskgraph.machine import Machine
from znn_dask.taskgraph.plan import Plan
from znn_dask.taskgraph.schedule import STEPS_AHEAD
from znn_dask.taskgraph.state import UpdateRule

_STEPS = 4  # simulated; the last two tell the steady state
_OF_A_STEP = frozenset({"update", "bias_update", "kernel_spectrum"})  # whatever the batch
_SCHEDULERS_SHARE = 0.5  # of the CPU time of a Dask task
_RULE = UpdateRule(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ReplicaCost:
    """What a slot computes, and what travels; seconds on one thread.

    Attributes
    ----------
    forward, backward
        Of a patch; loading counts with the one, gradients of kernels with the other.
    update
        Of a step: updates and spectra of the kernels.
    parallelism
        Threads that one patch keeps busy; several patches of a slot overlap.
    gradient_bytes
        Of one sum of gradients.
    whole_steps
        What a slot does of a step is one granule.
    """

    forward: float
    backward: float
    update: float
    parallelism: float
    gradient_bytes: int
    whole_steps: bool


def replica_cost(plan: Plan, machine: Machine) -> ReplicaCost:
    """What a plan says of one patch."""
    parts = {"forward": 0.0, "backward": 0.0, "update": 0.0}
    for task in plan.tasks:
        kind = task.id.kind
        part = "forward" if kind in ("load", "forward", "loss") else "backward"
        parts["update" if kind in _OF_A_STEP else part] += task.seconds + machine.job_seconds
    itemsize = np.dtype(plan.arithmetic.dtype).itemsize
    sizes = [int(np.prod(shape)) for shape in plan.network.parameter_shapes().values()]
    return ReplicaCost(
        **parts,
        parallelism=plan.schedule.work / plan.schedule.critical_path,
        gradient_bytes=sum(sizes) * itemsize,
        whole_steps=plan.steps_per_granule > 0,
    )


@dataclass(frozen=True)
class Estimate:
    """Seconds of a step for `placement.place`: a plan on slots of a cluster of these machines."""

    plan: Plan
    machine: Machine

    @cached_property
    def _cost(self) -> ReplicaCost:
        return replica_cost(self.plan, self.machine)

    def __call__(self, threads: Sequence[int], patches: Sequence[int]) -> float:
        return simulate_cluster(self._cost, threads, patches, self.machine).step_seconds


@dataclass(frozen=True)
class ClusterSchedule:
    """What the simulation saw of a step in the steady state.

    Attributes
    ----------
    step_seconds
        From one step's end to the next one's.
    compute_seconds
        What the slot with the most work per thread needs of them.
    granules
        Dask tasks.
    moved_bytes
        Between slots.
    """

    step_seconds: float
    compute_seconds: float
    granules: int
    moved_bytes: int


def simulate_cluster(
    cost: ReplicaCost, threads: Sequence[int], patches: Sequence[int], machine: Machine
) -> ClusterSchedule:
    """Steps of a batch on slots with so many threads and patches each."""
    speed = [
        min(count, min(n, STEPS_AHEAD) * cost.parallelism)
        for count, n in zip(threads, patches, strict=True)
    ]
    work = [cost.update + n * (cost.forward + cost.backward) for n in patches]
    compute = max(w / s for w, s in zip(work, speed, strict=True))
    places = [slot for slot, count in enumerate(patches) for _ in range(count)]
    if cost.whole_steps and len(threads) == 1:  # granules one behind the other: nothing waits
        return ClusterSchedule(compute, compute, 0, 0)
    names = Names("simulated")
    states = [names.key("state", slot) for slot in range(len(threads))]
    segment = training_segment(
        names, states, 0, [_RULE] * _STEPS, places=places, whole_steps=cost.whole_steps
    )
    run = _Run(segment.granules, cost, speed, machine)
    ends = run.ends_of_steps()
    return ClusterSchedule(
        step_seconds=ends[-1] - ends[-2],
        compute_seconds=compute,
        granules=len(segment.granules) // _STEPS,
        moved_bytes=run.moved // _STEPS,
    )


class _Run:
    """One simulated run of some granules."""

    def __init__(
        self, granules: Sequence[Granule], cost: ReplicaCost, speed: list[float], machine: Machine
    ) -> None:
        self.cost, self.speed, self.machine = cost, speed, machine
        self.moved = 0
        self._granules = {granule.key: granule for granule in granules}
        self._missing: dict[Key, int] = {}
        self._dependents: dict[Key, list[Key]] = {key: [] for key in self._granules}
        self._here: set[tuple[Key, int]] = set()  # results that were fetched to a slot
        self._out, self._in = [0.0] * len(speed), [0.0] * len(speed)  # links are free from then on
        self._engine = [0.0] * len(speed)
        self._idle = [True] * len(speed)
        self._ready: list[list[tuple[float, int, Key]]] = [[] for _ in speed]
        self._scheduler = 0.0
        self._events: list[tuple[float, int, bool, Key]] = []
        self._count = 0
        for granule in granules:
            needs = [need for need in granule.needs if need in self._granules]
            self._missing[granule.key] = len(needs)
            for need in needs:
                self._dependents[need].append(granule.key)

    def ends_of_steps(self) -> list[float]:
        """When the last update of each step was made."""
        for key, missing in self._missing.items():
            if not missing:
                self._at(0.0, key, done=False)
        ends: dict[int, float] = {}
        while self._events:
            now, _, done, key = heapq.heappop(self._events)
            granule = self._granules[key]
            if not done:
                queue = self._ready[granule.slot]
                heapq.heappush(queue, (-granule.priority, self._count, key))
            else:
                self._idle[granule.slot] = True
                if granule.work == "update":
                    ends[granule.step] = max(ends.get(granule.step, 0.0), now)
                self._finish(key, now)
            self._start(granule.slot, now)
        return [ends[step] for step in sorted(ends)]

    def _at(self, time: float, key: Key, *, done: bool) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, done, key))

    def _start(self, slot: int, now: float) -> None:
        if not self._idle[slot] or not self._ready[slot]:
            return
        key = heapq.heappop(self._ready[slot])[2]
        self._idle[slot] = False
        work = self._granules[key].work
        self._engine[slot] = max(now, self._engine[slot]) + self._seconds(self._granules[key])
        # New kernels are made in the gaps of what comes next, so an update is done at once.
        end = now if work == "update" else self._engine[slot]
        self._at(end + self.machine.granule_seconds * (1 - _SCHEDULERS_SHARE), key, done=True)

    def _seconds(self, granule: Granule) -> float:
        cost = self.cost
        if granule.work == "gradients":
            _, start, stop = granule.arguments
            seconds = (stop - start) * (cost.forward + cost.backward)
        else:
            seconds = {
                "forward": cost.forward,
                "backward": cost.backward,
                "update": cost.update,
            }.get(granule.work, 0.0)
        return seconds / self.speed[granule.slot]

    def _finish(self, key: Key, now: float) -> None:
        machine = self.machine
        self._scheduler = max(now + machine.latency_seconds, self._scheduler)
        self._scheduler += machine.granule_seconds * _SCHEDULERS_SHARE
        for dependent in self._dependents[key]:
            self._missing[dependent] -= 1
            if not self._missing[dependent]:
                told = self._scheduler + machine.hop_seconds + machine.latency_seconds
                self._at(self._fetched(self._granules[dependent], told), dependent, done=False)

    def _fetched(self, granule: Granule, now: float) -> float:
        """When all that a granule needs is on its slot."""
        there = now
        for need in granule.needs:
            source = self._granules.get(need)
            if source is None or source.slot == granule.slot or (need, granule.slot) in self._here:
                continue
            self._here.add((need, granule.slot))
            nbytes = self.cost.gradient_bytes
            self.moved += nbytes
            start = max(now, self._out[source.slot], self._in[granule.slot])
            end = start + nbytes / self.machine.bytes_per_second
            self._out[source.slot] = self._in[granule.slot] = end
            there = max(there, end + 2 * self.machine.latency_seconds)
        return there
