"""Tuning: every conv layer by several methods on this machine, and the arithmetic that follows.

network, output size ──conv_layers──> layers ──contenders──> methods ──measure──> rounds of seconds
                                                                                      │
Tuned (arithmetic, table, plan file) <──choose_arithmetic── methods <──contest.winner─┘

What was measured is kept with the other timings of the machine, by layer: a second tuning measures
nothing and comes to the same arithmetic. The arithmetic is then like any other: it is part of the
training and travels with it.
"""

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from znn_dask.kernels import costs
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network
from znn_dask.taskgraph.arithmetic import Arithmetic, Method
from znn_dask.taskgraph.choice import (
    ConvLayer,
    choose_arithmetic,
    conv_layers,
    default_method,
)
from znn_dask.taskgraph.contest import FEWEST_ROUNDS, advantage, winner
from znn_dask.taskgraph.plan_file import PlanFile, Source, write_plan
from znn_dask.taskgraph.stopwatch import Rounds, measure
from znn_dask.taskgraph.timings import Timings, store, stored

_TILES = 6  # the best by the cost table, which are measured
_HOPELESS = 4.0  # times the least counted seconds: not measured


@dataclass(frozen=True)
class Contest:
    """The methods that were measured for a conv layer.

    Attributes
    ----------
    layer
        What they compute.
    default, best
        The method of the cost table, and the one that won.
    seconds
        Method -> seconds of every round, as two threads share them. Empty where time ran out, and
        for 1x1x1 kernels, which have one method only.
    """

    layer: ConvLayer
    default: Method
    best: Method
    seconds: Mapping[Method, Sequence[float]]

    @property
    def gain(self) -> float:
        """How many times faster the best method is than the default one."""
        if self.best == self.default:
            return 1.0
        return advantage(self.seconds[self.best], self.seconds[self.default])

    @property
    def typical(self) -> dict[Method, float]:
        """Median seconds of each method, the fastest first."""
        medians = {method: statistics.median(taken) for method, taken in self.seconds.items()}
        return dict(sorted(medians.items(), key=lambda each: each[1]))


@dataclass(frozen=True)
class Tuned:
    """What a tuning found: `arithmetic` is for `znn.plan` and `znn.Trainer`.

    Attributes
    ----------
    network
        What was tuned.
    arithmetic
        The default one with the methods that won, and those that were given.
    sources
        Conv edge group -> "default", "tuned" or "given": who chose its method.
    contests
        Conv edge group -> what was measured; equal layers share theirs.
    training
        Whether for whole updates, or for forward passes alone.
    """

    network: Network
    arithmetic: Arithmetic
    sources: Mapping[str, Source]
    contests: Mapping[str, Contest]
    training: bool

    def explain(self) -> str:
        """What was measured, as a table."""
        from znn_dask.taskgraph.tuning_table import table

        return table(self)

    __str__ = explain

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a plan file, for `znn.read_plan` and the command line's `--plan`."""
        measured = {
            name: {str(method): round(1e3 * taken, 4) for method, taken in contest.typical.items()}
            for name, contest in self.contests.items()
        }
        write_plan(path, self.network, PlanFile(self.arithmetic, self.sources, measured))


def tune(
    network: Network,
    output_size: Triple,
    *,
    dtype: str = "float32",
    training: bool = True,
    seconds: float = 120.0,
    refresh: bool = False,
    given: Mapping[str, Method] = MappingProxyType({}),
    progress: bool = True,
) -> Tuned:
    """Measure the promising methods of every conv layer on one core, and take what is faster.

    A layer keeps the default method unless another one is faster beyond doubt (see `contest`).

    Parameters
    ----------
    output_size
        Output patch (z, y, x) in voxels.
    dtype
        "float32" or "float64".
    training
        For whole updates, or for forward passes with kernel spectra at hand.
    seconds
        Time to spend at most, about; layers that it is too short for keep the default.
    refresh
        Measure again what was measured before.
    given
        Conv edge groups with their method: those are not measured.
    progress
        Show a bar on standard error, if that is a terminal.

    Raises
    ------
    PlanError
        If `dtype` is unknown or a given method does not fit its layer.
    """
    # Refuses what is given and does not fit, before anything is measured.
    choose_arithmetic(network, output_size, dtype, training=training, given=given)
    layers = conv_layers(network, output_size, dtype, training=training)
    free = {name: layer for name, layer in layers.items() if name not in given}
    known = stored().convolutions
    missing = {
        layer
        for layer in free.values()
        if layer.shape.kernel != (1, 1, 1) and (refresh or repr(layer) not in known)
    }
    measured = _measure_all(missing, seconds, progress)
    if measured:
        known = store(Timings(convolutions=measured)).convolutions
    contests = {name: _judge(layer, known.get(repr(layer), {})) for name, layer in free.items()}
    changed = {n: c.best for n, c in contests.items() if c.best != c.default}
    arithmetic = choose_arithmetic(
        network, output_size, dtype, training=training, given={**changed, **given}
    )
    sources: dict[str, Source] = {
        name: "given" if name in given else "tuned" if name in changed else "default"
        for name in layers
    }
    return Tuned(network, arithmetic, sources, contests, training)


def contenders(layer: ConvLayer) -> tuple[Method, ...]:
    """The methods worth measuring: the default first, then the best ones by the cost table."""
    shape, default = layer.shape, default_method(layer)
    tiles = costs.tile_candidates(shape.output_size, shape.kernel, shape.dilation)
    tiled = sorted((Method("tiled", tile) for tile in tiles), key=layer.predicted)[:_TILES]
    others = sorted({Method("direct"), Method("fft"), *tiled}, key=layer.predicted)
    bound = _HOPELESS * layer.predicted(others[0])
    return (default, *(m for m in others if m != default and layer.predicted(m) <= bound))


def _measure_all(
    layers: set[ConvLayer], seconds: float, progress: bool
) -> dict[str, dict[str, Rounds]]:
    """Layer -> method -> rounds, as `Timings.convolutions`; the quickest layers first."""
    deadline = time.perf_counter() + seconds
    order = sorted(layers, key=lambda layer: (layer.predicted(default_method(layer)), repr(layer)))
    console = Console(stderr=True)
    columns = (
        TextColumn("tuning"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[at]}"),
    )
    measured: dict[str, dict[str, Rounds]] = {}
    with Progress(
        *columns, console=console, disable=not (progress and console.is_terminal), transient=True
    ) as bar:
        row = bar.add_task("", total=len(order), at="")
        for index, layer in enumerate(order):
            methods = contenders(layer)
            share = (deadline - time.perf_counter()) / (len(order) - index)
            bar.update(
                row, at=f"{layer.shape.channels} {layer.shape.kernel}: {len(methods)} methods"
            )
            rounds = measure(layer, methods, share)
            if len(rounds.get(methods[0], ())) >= FEWEST_ROUNDS:
                measured[repr(layer)] = {str(m): taken for m, taken in rounds.items()}
            bar.advance(row)
    return measured


def _judge(layer: ConvLayer, known: Mapping[str, Rounds]) -> Contest:
    default = default_method(layer)
    seconds = {}
    for text, rounds in known.items():
        method = Method.parse(text)
        convolution = layer.bind(method)
        seconds[method] = tuple(costs.on_two_threads(convolution, *taken) for taken in rounds)
    best = winner(default, seconds) if default in seconds else default
    return Contest(layer, default, best, seconds)
