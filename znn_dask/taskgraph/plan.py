"""The plan: how a network will be computed, how long that takes, and how much memory it needs.

network, output size ──arithmetic()──> Arithmetic ──compile──> Layers ──expand──> typed tasks
                                                                             │
Plan (table, seconds, bytes) <──────────── schedule by simulation <──────────┘
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from znn_dask.kernels import costs
from znn_dask.kernels.geometry import Triple
from znn_dask.network import EdgeGroup, Network
from znn_dask.taskgraph.arithmetic import (
    ALGORITHMS,
    Arithmetic,
    ConvolutionArithmetic,
    PlanError,
)
from znn_dask.taskgraph.cost import TaskCost, calibrate, map_spectra_bytes, spectrum_bytes
from znn_dask.taskgraph.granules import steps_per_granule
from znn_dask.taskgraph.layers import Layers, bind_convolution, compile_layers
from znn_dask.taskgraph.schedule import Schedule, simulate
from znn_dask.taskgraph.tasks import Task, expand

# A block is one task: long enough that starting it costs nothing, short enough to share out.
_BLOCK_SECONDS = 1e-3
_MOST_BLOCKS = 8
_NARROWEST_CHANNELS = 8  # matrix products with fewer rows run at a fraction of the speed
_POOLING_PASSES = 8


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
    slowness
        This machine's seconds per predicted second.
    """

    network: Network
    arithmetic: Arithmetic
    threads: int = 1
    slowness: float = 1.0
    training: bool = True

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
        from dataclasses import asdict

        return {
            "output_size": self.arithmetic.output_size,
            "dtype": self.arithmetic.dtype,
            "digest": self.arithmetic.digest,
            "threads": self.threads,
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
        Workers and threads of each; one patch runs on one worker.
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
        arithmetic = choose_arithmetic(network, output_size, dtype, algorithm)
    made = Plan(
        network, arithmetic, threads, calibrate() if slowness is None else slowness, training
    )
    if memory_limit is not None and made.bytes > memory_limit:
        fits = _fitting_size(made, memory_limit)
        raise PlanError(
            f"output size {_show(output_size)} needs {made.bytes / 1e9:.2f} GB, the limit is "
            f"{memory_limit / 1e9:.2f} GB; "
            + (f"{_show(fits)} would fit" if fits else "no smaller output patch would fit")
        )
    return made


def choose_arithmetic(
    network: Network, output_size: Triple, dtype: str = "float32", algorithm: str = "auto"
) -> Arithmetic:
    """The default arithmetic: a function of its arguments alone."""
    if algorithm not in ALGORITHMS:
        raise PlanError(f"algorithm {algorithm!r} is unknown; use one of {', '.join(ALGORITHMS)}")
    if dtype not in ("float32", "float64"):
        raise PlanError(f"dtype {dtype!r} is unknown; use float32 or float64")
    sizes = network.sizes(output_size)
    choices = {edge.name: _choose(network, edge, sizes, algorithm) for edge in network.conv_edges}
    draft = Arithmetic(output_size, dtype, choices, {})
    cuts = {
        node.name: _cut(network, node.name, sizes, draft)
        for node in network.nodes
        if node.type != "input"
    }
    return Arithmetic(output_size, dtype, choices, cuts)


def _choose(
    network: Network, edge: EdgeGroup, sizes: Mapping[str, Triple], algorithm: str
) -> ConvolutionArithmetic:
    channels = (network.node(edge.input).size, network.node(edge.output).size)
    at = (sizes[edge.output], edge.size, network.dilation(edge.input), channels)
    tile: Triple | None = None
    if algorithm == "auto":
        algorithm, tile = costs.choose_algorithm(*at)
    elif edge.size == (1, 1, 1):
        algorithm = "direct"
    elif algorithm == "tiled":
        tile = costs.default_tile(*at)
    whole = ConvolutionArithmetic(algorithm, tile, channels[0])
    draft = Arithmetic(sizes[edge.output], "float32", {edge.name: whole}, {})
    convolution = bind_convolution(network, sizes, edge, draft)
    cost = costs.cost(convolution)
    most = max(1, channels[0] // _NARROWEST_CHANNELS)
    blocks = _block_count(cost.kernel_gradient + cost.kernel_spectrum, most)
    return ConvolutionArithmetic(algorithm, tile, -(-channels[0] // blocks))


def _cut(
    network: Network, node: str, sizes: Mapping[str, Triple], draft: Arithmetic
) -> tuple[int, int, int]:
    """(axis, step, count) of the blocks of a node group's map: whole tiles of its edges."""
    size = sizes[node]
    convolutions = [
        bind_convolution(network, sizes, edge, draft)
        for edge in network.edges_into(node)
        if edge.type == "conv"
    ]
    rows = {convolution.rows() for convolution in convolutions if convolution.transforms}
    axes = {axis for axis, _ in rows} or {next((a for a in range(3) if size[a] > 1), 0)}
    if len(axes) > 1:  # tiles run along different axes: no cut respects both
        return 0, size[0], 1
    (axis,) = axes
    step = math.lcm(*(step for _, step in rows))
    seconds = sum(costs.cost(convolution).forward for convolution in convolutions)
    if not convolutions:
        seconds = _POOLING_PASSES * math.prod(size) * network.node(node).size * 4 / 5e9
    return axis, step, _block_count(seconds, -(-size[axis] // step))


def _block_count(seconds: float, most: int) -> int:
    return max(1, min(most, _MOST_BLOCKS, int(seconds / _BLOCK_SECONDS)))


def _fitting_size(made: Plan, limit: int) -> Triple | None:
    z, y, x = made.arithmetic.output_size
    while max(z, y, x) > 1:
        z, y, x = (max(1, n * 3 // 4) for n in (z, y, x))
        smaller = choose_arithmetic(made.network, (z, y, x), made.arithmetic.dtype)
        if Plan(made.network, smaller, made.threads, made.slowness, made.training).bytes <= limit:
            return z, y, x
    return None


def _show(size: Triple) -> str:
    return ",".join(map(str, size))
