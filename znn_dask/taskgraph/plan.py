"""The plan: how a network will be computed, how long that takes, and how much memory it needs.

network, output size ──arithmetic()──> Arithmetic ──compile──> Layers ──expand──> typed tasks
                                                                             │
Plan (table, seconds, bytes) <──────────── schedule by simulation <──────────┘
"""

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from znn_dask.kernels import storage
from znn_dask.kernels.geometry import Triple
from znn_dask.network import EdgeGroup, Network
from znn_dask.taskgraph.arithmetic import Arithmetic
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.cost import TaskCost, calibrate
from znn_dask.taskgraph.execution import DEFAULT, Execution
from znn_dask.taskgraph.fitting import fit
from znn_dask.taskgraph.footprint import peak_bytes
from znn_dask.taskgraph.granules import steps_per_granule
from znn_dask.taskgraph.layers import Layers, compile_layers
from znn_dask.taskgraph.machine import Machine
from znn_dask.taskgraph.pricing import price, threads_at_work
from znn_dask.taskgraph.rehearsal import rehearse
from znn_dask.taskgraph.schedule import Schedule, simulate
from znn_dask.taskgraph.tasks import Task, expand
from znn_dask.taskgraph.timings import Timings, store, stored

_BUDGET = 10.0  # seconds of a rehearsal
_LONGEST_STEP = 30.0  # seconds of work that a rehearsal may have to wait for


@dataclass(frozen=True)
class LayerRow:
    """One line of the plan's table; seconds on one core, bytes while a step runs."""

    layer: str
    kind: str
    kernel: Triple
    channels: tuple[int, int]
    output: Triple
    algorithm: str
    tile: Triple | None
    source: str
    blocks: int
    forward_s: float
    backward_s: float
    update_s: float
    spectra_bytes: int
    spectra: str


@dataclass(frozen=True)
class Plan:
    """How one pass runs: its arithmetic, typed tasks and schedule.

    Attributes
    ----------
    network, arithmetic
        These decide the bits.
    threads
        Threads of the worker it was scheduled for.
    workers
        Workers.
    patches
        Patches of a batch on a worker; schedule and seconds are of one.
    slowness
        This machine's seconds per counted second, of tasks that nothing is known about.
    timings
        What was measured on this machine.
    execution
        What is kept and what is made again.
    sources
        Conv edge group -> who chose its method: "default" (the cost table), "tuned" or "given".
    """

    network: Network
    arithmetic: Arithmetic
    threads: int = 1
    slowness: float = 1.0
    training: bool = True
    workers: int = 1
    timings: Timings = field(default_factory=Timings)
    execution: Execution = DEFAULT
    patches: int = 1
    sources: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def layers(self) -> Layers:
        """The network compiled for the arithmetic."""
        return compile_layers(self.network, self.arithmetic)

    @cached_property
    def cost(self) -> TaskCost:
        """Counted costs of the typed tasks."""
        return TaskCost(self.layers, self.slowness)

    @cached_property
    def counted(self) -> tuple[Task, ...]:
        """The typed tasks of one step with the seconds that are counted for them."""
        return expand(self.layers, self.cost, training=self.training, execution=self.execution)

    @cached_property
    def _priced(self) -> tuple[tuple[Task, ...], float]:
        what = (self.counted, self.layers, self.timings, self.threads)
        return price(*what, training=self.training, prompt=self.execution.prompt)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The typed tasks of one step with their seconds here."""
        return self._priced[0]

    @property
    def measured(self) -> float:
        """Share of the tasks' seconds that was measured on this machine; the rest is estimated."""
        return self._priced[1]

    @property
    def basis(self) -> str:
        """What the predicted seconds rest on, for people."""
        if self.measured == 1:
            return "measured on this machine"
        return f"estimated, {self.measured:.0%} of it measured" if self.measured else "estimated"

    @property
    def machine(self) -> Machine:
        """What the things around the arithmetic take."""
        return self.timings.machine

    @cached_property
    def schedule(self) -> Schedule:
        """The simulated run of a few steps."""
        return self.schedule_of(1)

    def schedule_of(self, patches: int) -> Schedule:
        """The same with several patches of a batch in a step."""
        return simulate(
            self.tasks,
            self.threads,
            patches=patches,
            job_seconds=self.machine.job_seconds,
            steps_ahead=self.execution.steps_ahead,
            overlap=self.execution.overlap(self.threads),
        )

    @cached_property
    def update_seconds(self) -> float:
        """Predicted seconds per step in the steady state, on all workers."""
        seconds = self.schedule.step_seconds
        if self.workers > 1 and self.training:
            from znn_dask.taskgraph.cluster_schedule import Estimate

            estimate = Estimate(self, self.machine)
            return estimate([self.threads] * self.workers, [1] * self.workers)
        if self.training and not self.steps_per_granule:
            # From forward to backward pass nothing is left to do while Dask passes on the word;
            # after the backward pass the gradients of kernels fill such gaps.
            seconds += self.machine.hop_seconds
        return seconds

    @property
    def steps_per_granule(self) -> int:
        """Steps in one Dask task; 0 when each pass is a task of its own."""
        return steps_per_granule(self.schedule.step_seconds)

    @cached_property
    def bytes(self) -> int:
        """Predicted peak bytes of a worker above the idle process."""
        patches = min(self.patches, 2 * self.execution.overlap(self.threads))  # more are no more
        schedule = self.schedule if patches == 1 else self.schedule_of(patches)
        return peak_bytes(self.layers, self.tasks, schedule, self.execution, training=self.training)

    @cached_property
    def rows(self) -> tuple[LayerRow, ...]:
        """One row per edge group, in the order of the network."""
        order = {node.name: i for i, node in enumerate(self.network.topological)}
        edges = sorted(self.network.edges, key=lambda edge: order[edge.output])
        return tuple(self._row(edge) for edge in edges)

    @cached_property
    def _seconds(self) -> dict[tuple[str, str], float]:
        """(kind of task, layer) -> seconds of its blocks together."""
        seconds: dict[tuple[str, str], float] = defaultdict(float)
        for task in self.tasks:
            seconds[task.id.kind, task.id.layer] += task.seconds
        return seconds

    def _row(self, edge: EdgeGroup) -> LayerRow:
        choice = self.arithmetic.convolutions.get(edge.name)
        edges_in = len(self.network.edges_into(edge.output))
        seconds = self._seconds
        return LayerRow(
            layer=edge.name,
            kind=edge.type,
            kernel=edge.size,
            channels=self.layers.channels(edge.name),
            output=self.layers.sizes[edge.output],
            algorithm=choice.algorithm if choice else "",
            tile=choice.tile if choice else None,
            source=self.sources.get(edge.name, "given") if choice else "",
            blocks=len(self.layers.blocks[edge.output]),
            forward_s=seconds["forward", edge.output] / edges_in,
            backward_s=seconds["backward", edge.output] / edges_in
            + seconds["input_gradient", edge.name],
            update_s=sum(
                seconds[kind, edge.name]
                for kind in ("input_spectrum", "kernel_gradient", "update", "kernel_spectrum")
            ),
            spectra_bytes=storage.spectra_bytes(self.layers.convolutions[edge.name])
            if choice
            else 0,
            spectra=self._spectra(edge.name),
        )

    def _spectra(self, edge: str) -> str:
        """What becomes of an input spectrum: "kept", "recomputed", or "" where there is none."""
        if not self.training or not self.arithmetic.convolutions.get(edge):
            return ""
        if not self.layers.transformed(edge):
            return ""
        return "recomputed" if edge in self.execution.recomputed else "kept"

    def explain(self) -> str:
        """The plan as a table."""
        from znn_dask.taskgraph.explain import table

        return table(self)

    def __repr__(self) -> str:
        return self.explain()

    def _repr_html_(self) -> str | None:
        from znn_dask.display.plan import plan_html

        return plan_html(self)

    def to_dict(self) -> dict[str, Any]:
        """The table and the totals as JSON-ready values."""
        return {
            "output_size": self.arithmetic.output_size,
            "dtype": self.arithmetic.dtype,
            "digest": self.arithmetic.digest,
            "threads": self.threads,
            "workers": self.workers,
            "predicted_update_s" if self.training else "predicted_forward_s": self.update_seconds,
            "basis": self.basis,
            "critical_path_s": self.schedule.critical_path,
            "work_s": self.schedule.work,
            "efficiency": self.schedule.efficiency,
            "predicted_bytes": self.bytes,
            "steps_per_granule": self.steps_per_granule,
            "layers": [asdict(row) for row in self.rows],
        }


def plan(
    network: Network,
    output_size: Triple,
    *,
    workers: int = 1,
    threads: int = 1,
    patches: int = 1,
    dtype: str = "float32",
    algorithm: str = "auto",
    arithmetic: Arithmetic | None = None,
    sources: Mapping[str, str] | None = None,
    memory_limit: int | None = None,
    training: bool = True,
    slowness: float | None = None,
    measure: bool = False,
    refresh: bool = False,
) -> Plan:
    """Plan a network's passes over patches of `output_size` (z, y, x).

    Parameters
    ----------
    workers, threads
        Workers and threads of each; one patch runs on one worker, so W workers are for batches
        of W patches or more.
    patches
        Patches of a batch on each worker, for the memory.
    algorithm
        "auto", or "direct", "fft" or "tiled" for every convolution.
    arithmetic
        Use this one (tuned, from a plan file or a checkpoint) instead of choosing.
    sources
        Who chose its methods, for the table (`Tuned.sources`, `PlanFile.sources`).
    memory_limit
        Bytes that the pass may take on a worker: spectra are made again where it would take more.
    slowness
        Seconds per counted second: predict from counts alone, whatever is known of this machine.
    measure
        Rehearse tasks of which this machine's seconds are not known yet (some seconds, once).
    refresh
        Rehearse all tasks again.

    Raises
    ------
    PlanError
        If the pass cannot fit the limit; the message says what is needed, and what would fit.
    """
    if arithmetic is None:
        arithmetic = choose_arithmetic(network, output_size, dtype, algorithm, training=training)
        chosen = "default" if algorithm == "auto" else "given"
        sources = dict.fromkeys(arithmetic.convolutions, chosen)
    timings = stored() if slowness is None else Timings()
    if slowness is None:
        slowness = 1.0 if timings else calibrate()
    made = Plan(
        *(network, arithmetic, threads, slowness, training, workers, timings),
        sources=sources or {},
        patches=patches,
    )
    if memory_limit is not None:  # first: a rehearsal must fit the limit too
        made = fit(made, memory_limit, algorithm)
    if refresh or (measure and made.measured < 1):
        made = _rehearsed(made)
        if memory_limit is not None:  # the peak follows the schedule
            made = fit(made, memory_limit, algorithm)
    return made


def _rehearsed(made: Plan) -> Plan:
    """The same plan by what a rehearsal of it took; `made` itself where that would take too long
    or more than half of this machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if made.schedule.work > _LONGEST_STEP or made.bytes > memory / 2:
        return made
    what = (made.layers, replace(made, slowness=1.0).counted)
    how = (threads_at_work(made.threads), made.execution)
    known = rehearse(*what, *how, training=made.training, budget=_BUDGET)
    return replace(made, slowness=1.0, timings=store(known))
