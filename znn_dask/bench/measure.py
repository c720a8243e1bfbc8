"""Medians of repeated runs, and how people read them.

The kinds of runs are interleaved, so that what else the machine does hits them alike.
"""

import io
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from znn_dask.bench.machine import peak_rss
from znn_dask.bench.runs import make_runs
from znn_dask.cluster.work import TrainingSpec
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network
from znn_dask.network.geometry import show
from znn_dask.taskgraph.arithmetic import Arithmetic
from znn_dask.taskgraph.explain import nbytes, seconds
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.machine import cores, processor
from znn_dask.taskgraph.plan import plan

_ROUNDS = 5
_FEWEST_ROUNDS = 3


def measure(
    network: Network,
    output_size: Triple,
    *,
    threads: int | None = None,
    algorithm: str = "auto",
    arithmetic: Arithmetic | None = None,
    sources: Mapping[str, str] | None = None,
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
    arithmetic, sources
        Of a tuning or plan file, in place of the default (see `plan`).
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
    planned = partial(
        plan,
        network,
        output_size,
        threads=threads,
        dtype=dtype,
        algorithm=algorithm,
        arithmetic=arithmetic,
        sources=sources,
        training=not forward_only,
    )
    made = planned()
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1))
        spec = TrainingSpec(network, made.arithmetic, "square", noise_source(network, output_size))
        runs, idle = make_runs(stack, made, spec, threads, forward_only)
        first = next(iter(runs))
        begun = time.perf_counter()
        estimate = runs[first](2)  # also plans FFTs and fills the pool of memory
        peak = peak_rss()
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
    predicted = planned(measure=True)  # not before: a rehearsal takes the memory of a run
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "output_size": list(output_size),
        "dtype": dtype,
        "mode": algorithm,
        "threads": threads,
        "update_s": medians.get("update"),
        "kernels_only_update_s": medians.get("kernels_only_update"),
        "forward_s": medians["forward"],
        "predicted_update_s": None if forward_only else predicted.update_seconds,
        "predicted_forward_s": predicted.update_seconds if forward_only else None,
        "peak_rss_bytes": peak,
        "rss_above_idle_bytes": max(0, peak - idle),
        "predicted_bytes": made.bytes,
        "rounds": {name: [round(value, 6) for value in values] for name, values in times.items()},
        "updates_per_round": count,
        "steps_per_granule": made.steps_per_granule,
        "arithmetic": made.arithmetic.digest,
        "machine": {"processor": processor(), "cores": cores()},
        "plan": predicted.to_dict()["layers"],
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
    size = show(result["output_size"])
    console = Console(file=text, width=100, color_system=None, force_jupyter=False)
    console.print(
        f"{result.get('network', 'network')}, output patch {size}, {result['dtype']}, "
        f"{result['threads']} thread(s), {result['machine']['processor']}",
        soft_wrap=True,
        highlight=False,
    )
    console.print(grid)
    return text.getvalue().rstrip()
