"""The plan: how a network will be computed, how long that takes, and how much memory it needs.

network, output size ──arithmetic()──> Arithmetic ──compile──> Layers ──expand──> typed tasks
                                                                             │
Plan (table, seconds, bytes) <──────────── schedule by simulation <──────────┘
"""

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from znn_dask.kernels.geometry import Triple
from znn_dask.network import EdgeGroup, Network
from znn_dask.network.geometry import show
from znn_dask.taskgraph.arithmetic import Arithmetic, PlanError
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.cost import TaskCost, calibrate, map_spectra_bytes, spectrum_bytes
from znn_dask.taskgraph.granules import steps_per_granule
from znn_dask.taskgraph.layers import Layers, compile_layers
from znn_dask.taskgraph.schedule import Schedule, simulate
from znn_dask.taskgraph.tasks import Task, expand


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
    blocks: int
    forward_s: float
    backward_s: float
    update_s: float
    spectra_bytes: int


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
        Workers, with a patch of the batch each.
    slowness
        This machine's seconds per predicted second.
    """

    network: Network
    arithmetic: Arithmetic
    threads: int = 1
    slowness: float = 1.0
    training: bool = True
    workers: int = 1

    @cached_property
    def layers(self) -> Layers:
        """The network compiled for the arithmetic."""
        return compile_layers(self.network, self.arithmetic)

    @cached_property
    def cost(self) -> TaskCost:
        """Estimated costs of the typed tasks."""
        return TaskCost(self.layers, self.slowness)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The typed tasks of one step."""
        return expand(self.layers, self.cost, training=self.training)

    @cached_property
    def schedule(self) -> Schedule:
        """The simulated run of a few steps."""
        return simulate(self.tasks, self.threads)

    @property
    def update_seconds(self) -> float:
        """Predicted seconds per step in the steady state."""
        return self.schedule.step_seconds

    @property
    def steps_per_granule(self) -> int:
        """Steps in one Dask task; 0 when each pass is a task of its own."""
        return steps_per_granule(self.update_seconds)

    @cached_property
    def bytes(self) -> int:
        """Predicted peak bytes above the idle process: maps, spectra, kernels, two steps' worth."""
        itemsize = np.dtype(self.arithmetic.dtype).itemsize
        maps = sum(
            math.prod(self.layers.sizes[n.name]) * n.size * itemsize for n in self.network.nodes
        )
        kernels = sum(math.prod(s) for s in self.network.parameter_shapes().values()) * itemsize
        spectra = sum(row.spectra_bytes for row in self.rows)
        transient = max((row.spectra_bytes for row in self.rows), default=0)
        if not self.training:
            return (
                maps
                + kernels
                + sum(spectrum_bytes(self.layers, e) for e in self._convs)
                + transient
            )
        return 3 * maps + 5 * kernels + 2 * spectra + transient

    @property
    def _convs(self) -> list[str]:
        return [edge.name for edge in self.network.conv_edges]

    @cached_property
    def rows(self) -> tuple[LayerRow, ...]:
        """One row per edge group, in the order of the network."""
        order = {node.name: i for i, node in enumerate(self.network.topological)}
        edges = sorted(self.network.edges, key=lambda edge: order[edge.output])
        return tuple(self._row(edge) for edge in edges)

    def _row(self, edge: EdgeGroup) -> LayerRow:
        blocks = self.layers.blocks[edge.output]
        choice = self.arithmetic.convolutions.get(edge.name)
        channels = self.layers.channel_blocks.get(edge.name, ())
        edges_in = len(self.network.edges_into(edge.output))
        update = sum(
            self.cost.kernel_gradient(edge.name, c)
            + self.cost.update(edge.name, c)
            + (self.cost.kernel_spectrum(edge.name, c) if self.layers.transformed(edge.name) else 0)
            for c in channels
        )
        return LayerRow(
            layer=edge.name,
            kind=edge.type,
            kernel=edge.size,
            channels=self.layers.channels(edge.name),
            output=self.layers.sizes[edge.output],
            algorithm=choice.algorithm if choice else "",
            tile=choice.tile if choice else None,
            blocks=len(blocks),
            forward_s=sum(self.cost.forward(edge.output, b) for b in blocks) / edges_in,
            backward_s=sum(self.cost.backward(edge.output, b) for b in blocks) / edges_in
            if edge.output in self.layers.trained
            else 0.0,
            update_s=update,
            spectra_bytes=spectrum_bytes(self.layers, edge.name)
            + map_spectra_bytes(self.layers, edge.name)
            if choice
            else 0,
        )

    def explain(self) -> str:
        """The plan as a table."""
        from znn_dask.taskgraph.explain import table

        return table(self)

    def to_dict(self) -> dict[str, Any]:
        """The table and the totals as JSON-ready values."""
        return {
            "output_size": self.arithmetic.output_size,
            "dtype": self.arithmetic.dtype,
            "digest": self.arithmetic.digest,
            "threads": self.threads,
            "workers": self.workers,
            "predicted_update_s" if self.training else "predicted_forward_s": self.update_seconds,
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
    dtype: str = "float32",
    algorithm: str = "auto",
    arithmetic: Arithmetic | None = None,
    memory_limit: int | None = None,
    training: bool = True,
    slowness: float | None = None,
) -> Plan:
    """Plan a network's passes over patches of `output_size` (z, y, x).

    Parameters
    ----------
    workers, threads
        Workers and threads of each; one patch runs on one worker, so W workers are for batches
        of W patches or more.
    algorithm
        "auto", or "direct", "fft" or "tiled" for every convolution.
    arithmetic
        Use this one (from a checkpoint, say) instead of choosing.
    memory_limit
        Bytes that the pass may take on a worker.
    slowness
        Seconds per predicted second; measured when not given.

    Raises
    ------
    PlanError
        If the pass cannot fit the limit; the message says which output size would.
    """
    if arithmetic is None:
        arithmetic = choose_arithmetic(network, output_size, dtype, algorithm, training=training)
    if slowness is None:
        slowness = calibrate()
    made = Plan(network, arithmetic, threads, slowness, training, workers)
    if memory_limit is not None and made.bytes > memory_limit:
        from znn_dask.taskgraph.explain import nbytes

        fits = _fitting_size(made, memory_limit, algorithm)
        raise PlanError(
            f"output size {show(output_size)} needs {nbytes(made.bytes)}, the limit is "
            f"{nbytes(memory_limit)}; "
            + (f"{show(fits)} would fit" if fits else "no smaller output patch would fit")
        )
    return made


def _fitting_size(made: Plan, limit: int, algorithm: str) -> Triple | None:
    z, y, x = made.arithmetic.output_size
    while max(z, y, x) > 1:
        z, y, x = (max(1, n * 3 // 4) for n in (z, y, x))
        smaller = choose_arithmetic(
            made.network, (z, y, x), made.arithmetic.dtype, algorithm, training=made.training
        )
        if Plan(made.network, smaller, made.threads, made.slowness, made.training).bytes <= limit:
            return z, y, x
    return None
