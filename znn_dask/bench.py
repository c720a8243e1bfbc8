"""Benchmark of a network: seconds per update through Dask and without, per forward pass; memory.

The kinds of runs are interleaved, so that what else the machine does hits them alike, and medians
are given.
"""

import io
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from znn_dask.cluster import work
from znn_dask.cluster.local import cores, local_cluster
from znn_dask.cluster.session import Session
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.explain import nbytes, seconds
from znn_dask.taskgraph.plan import Plan, plan
from znn_dask.taskgraph.state import State, UpdateRule
from znn_dask.training.initial import initial_parameters
from znn_dask.training.loop import Cadence, Loop

_ROUNDS = 5
_FEWEST_ROUNDS = 3
_GRANULES = 4  # that a measured run of training has at least
_UNDER_WAY = 2  # patches at once in the forward runs: one fills the gaps of the other


@dataclass(frozen=True)
class RandomPatch:
    """Maps (z, y, x, c) of Gaussian noise."""

    inputs: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    weights: dict[str, None]


@dataclass(frozen=True)
class RandomSource:
    """The same patch of noise for ever, so that loading costs nothing."""

    noise: RandomPatch

    def patch(self, index: int) -> RandomPatch:
        """The patch, whatever `index` is."""
        return self.noise


def random_source(network: Network, output_size: Triple, seed: int = 0) -> RandomSource:
    """Float32 noise of the sizes that the network needs."""
    rng = np.random.default_rng(seed)
    sizes = network.sizes(output_size)

    def maps(nodes: Any) -> dict[str, np.ndarray]:
        return {
            node.name: rng.standard_normal((*sizes[node.name], node.size), np.float32)
            for node in nodes
        }

    return RandomSource(RandomPatch(maps(network.inputs), maps(network.outputs), {}))


def measure(
    network: Network,
    output_size: Triple,
    *,
    threads: int | None = None,
    algorithm: str = "auto",
    dtype: str = "float32",
    forward_only: bool = False,
    seconds: float = 20.0,
) -> dict[str, Any]:
    """Benchmark figures as JSON-ready values; keys ending in _s are seconds.

    Parameters
    ----------
    output_size
        Output patch (z, y, x).
    threads
        Threads of one worker; all cores when not given.
    algorithm
        "auto", "direct", "fft" or "tiled".
    forward_only
        Without updates.
    seconds
        Time to spend; at least three rounds are made.

    Returns
    -------
    `update_s`: training through Dask, per update in the steady state; `kernels_only_update_s`: the
    same jobs on the same threads without Dask; `forward_s`: forward passes with cached kernel
    spectra, per patch with two under way; `predicted_update_s`; `peak_rss_bytes` of the process
    until the first of these ended and `rss_above_idle_bytes`, the same less what the process had
    before; `plan`: the plan's rows; and what was asked for. What was not measured is None.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}: give at least 1")
    if seconds <= 0:
        raise ValueError(f"seconds is {seconds:g}: give a positive number")
    threads = threads or cores()
    made = plan(
        network,
        output_size,
        threads=threads,
        dtype=dtype,
        algorithm=algorithm,
        training=not forward_only,
    )
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1))
        spec = TrainingSpec(network, made.arithmetic, "square", random_source(network, output_size))
        runs, idle = _runs(stack, made, spec, threads, forward_only)
        first = next(iter(runs))
        begun = time.perf_counter()
        estimate = runs[first](2)  # also plans FFTs and fills the pool of memory
        peak = _peak_rss()
        for name in runs:
            if name != first:
                runs[name](2)
        left = max(1e-3, seconds - (time.perf_counter() - begun))
        count = max(2, round(left / (_ROUNDS * len(runs) * estimate)))
        times: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(_ROUNDS):
            late = time.perf_counter() - begun > seconds
            if late and number >= _FEWEST_ROUNDS:
                break
            for name, run in runs.items():
                times[name].append(run(count))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "output_size": list(output_size),
        "dtype": dtype,
        "mode": algorithm,
        "threads": threads,
        "update_s": medians.get("update"),
        "kernels_only_update_s": medians.get("kernels_only_update"),
        "forward_s": medians["forward"],
        "predicted_update_s": None if forward_only else made.update_seconds,
        "predicted_forward_s": made.update_seconds if forward_only else None,
        "peak_rss_bytes": peak,
        "rss_above_idle_bytes": max(0, peak - idle),
        "predicted_bytes": made.bytes,
        "rounds": {name: [round(value, 6) for value in values] for name, values in times.items()},
        "updates_per_round": count,
        "steps_per_granule": made.steps_per_granule,
        "arithmetic": made.arithmetic.digest,
        "machine": {"processor": _processor(), "cores": cores()},
        "plan": made.to_dict()["layers"],
    }


def table(result: Mapping[str, Any]) -> str:
    """The figures of `measure` for people."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    for key, label in (
        ("update_s", "update, training through Dask"),
        ("kernels_only_update_s", "update, the same jobs without Dask"),
        ("predicted_update_s", "update, predicted"),
        ("forward_s", "forward pass"),
        ("predicted_forward_s", "forward pass, predicted"),
    ):
        if result[key] is not None:
            grid.add_row(label, seconds(result[key]))
    grid.add_row("peak memory", nbytes(result["peak_rss_bytes"]))
    grid.add_row("  above idle", nbytes(result["rss_above_idle_bytes"]))
    text = io.StringIO()
    size = ",".join(map(str, result["output_size"]))
    console = Console(file=text, width=100, color_system=None)
    console.print(
        f"{result.get('network', 'network')}, output patch {size}, {result['dtype']}, "
        f"{result['threads']} thread(s), {result['machine']['processor']}",
        soft_wrap=True,
        highlight=False,
    )
    console.print(grid)
    return text.getvalue().rstrip()


Run = Callable[[int], float]


def _runs(
    stack: ExitStack, made: Plan, spec: TrainingSpec, threads: int, forward_only: bool
) -> tuple[dict[str, Run], int]:
    """Name -> a function that does so many updates and returns the seconds of one; idle bytes.

    What holds memory is made at its first use, so that the first run's peak is its own.
    """
    parameters = initial_parameters(spec.network, 0, made.arithmetic.dtype)
    runs: dict[str, Run] = {}
    if not forward_only:
        client = stack.enter_context(local_cluster(threads, dashboard=False))
        idle = _rss()
        trained = _Trained(client, made, spec, parameters)
        stack.callback(trained.close)
        runs["update"] = trained.run
    else:
        idle = _rss()
    bare = _Bare(made, spec, parameters, threads)
    stack.callback(bare.close)
    if not forward_only:
        runs["kernels_only_update"] = bare.updates
    runs["forward"] = bare.forwards
    return runs, idle


class _Trained:
    """Updates through Dask, one session for all runs."""

    def __init__(self, client: Any, made: Plan, spec: TrainingSpec, parameters: Any) -> None:
        self._steps = made.steps_per_granule
        self._session = Session(client, spec, whole_steps=self._steps > 0)
        self._parameters = parameters
        self._step = -1

    def run(self, count: int) -> float:
        if self._step < 0:
            self._session.start(self._parameters, None, 0)
            self._step = 0
        loop = Loop(self._session, Cadence(0, 0, 0), lambda step: _RULE, self._steps)
        steps = max(1, self._steps)
        granules = max(_GRANULES if steps > 1 else 2, -(-count // steps))
        # The first granule starts the line and the last waits for a snapshot: neither counts.
        last = self._step + (granules + 2) * steps
        stamps = [(o.step, time.perf_counter()) for o in loop.run(self._step, last)]
        self._step = last
        (first_step, begin), (last_step, end) = stamps[0], stamps[-2]
        return (end - begin) / (last_step - first_step)

    def close(self) -> None:
        self._session.close()


class _Bare:
    """The same jobs on an engine of this process, without Dask."""

    def __init__(self, made: Plan, spec: TrainingSpec, parameters: Any, threads: int) -> None:
        self._made, self._spec, self._threads = made, spec, threads
        self._parameters = parameters
        self._context: Context | None = None

    def _start(self) -> Context:
        if self._context is None:
            self._context = Context(self._spec, Engine(self._threads))
            self._state = work.new_state(self._context, self._parameters, None, 0)
        return self._context

    def updates(self, count: int) -> float:
        context = self._start()
        begin = time.perf_counter()
        self._state = work.train(context, self._state, self._state.step, (_RULE,) * count)
        context.engine.wait(self._state.jobs.values())
        return (time.perf_counter() - begin) / count

    def forwards(self, count: int) -> float:
        context, state = self._start(), self._state
        self._forwards(context, state, 1)  # kernel spectra, if this is the first time
        begin = time.perf_counter()
        self._forwards(context, state, count)
        return (time.perf_counter() - begin) / count

    def _forwards(self, context: Context, state: State, count: int) -> None:
        tapes = []
        for index in range(count):
            tape = context.program.load(
                lambda: self._spec.source.patch(0), (state.step, index), training=False
            )
            context.program.forward(state, tape)
            tapes.append(tape)
            if len(tapes) == _UNDER_WAY:
                context.engine.wait(tapes.pop(0).jobs.values())
        for tape in tapes:
            context.engine.wait(tape.jobs.values())

    def close(self) -> None:
        if self._context is not None:
            self._context.engine.close()


_RULE = UpdateRule(1e-6, 0.9, 0.0, 1e-6)  # noise teaches nothing: stay where numbers are ordinary


def _rss() -> int:
    """Bytes of memory this process has now; its peak where the system does not tell."""
    return _status("VmRSS") or _peak_rss()


def _peak_rss() -> int:
    """Most bytes of memory that this process had.

    Not `getrusage`, where Linux tells more: a child inherits the peak of its parent there.
    """
    scale = 1 if platform.system() == "Darwin" else 1024
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    found = [line.split() for line in lines if line.startswith(f"{key}:")]
    return int(found[0][1]) * 1024 if found else 0


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or os.uname().machine
