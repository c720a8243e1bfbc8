"""`info` and `plan`: what a network is, and how it will be computed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from znn_dask.cli.arguments import (
    Memory,
    Methods,
    Size,
    Switch,
    open_network,
    parse_methods,
)
from znn_dask.cli.errors import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from znn_dask.network import Network
    from znn_dask.taskgraph.arithmetic import Arithmetic, Method

Algorithm = Literal["auto", "fft", "direct", "tiled"]


def info(net: str, /, *, output_size: Size | None = None, svg: Path | None = None) -> None:
    """Describe a network: layers, map sizes, field of view, parameters.

    Example:

        znn-dask info vd2d --output-size 1,64,64 --svg vd2d.svg

    Parameters
    ----------
    net
        A .znn file, a checkpoint, a ZNN .h5 file, or a name in the zoo (n4, vd2d, vd2d3d, srini2d,
        small3d, em3d).
    output_size
        Output patch Z,Y,X that map sizes are given for; 1,1,1 when not given.
    svg
        Draw the network into this file.
    """
    from znn_dask.network import describe, draw

    network = open_network(net)
    text = describe(network, output_size)
    if svg is not None:
        svg.write_text(draw(network, output_size), encoding="utf-8")
        say(f"drawn in {svg}")
    print(text)


def plan(
    net: str,
    /,
    *,
    output_size: Size | None = None,
    workers: int = 1,
    threads: int | None = None,
    batch: int | None = None,
    memory_limit: Memory | None = None,
    algorithm: Algorithm = "auto",
    set_: Methods = (),
    plan: Path | None = None,
    dtype: Literal["float32", "float64"] | None = None,
    forward: Switch = False,
    refresh: Switch = False,
    json_: Switch = False,
    gantt: Path | None = None,
) -> None:
    """Show how a network will be computed: algorithm and tile per layer, predicted time and memory.

    Times are those of this machine: layers that were never measured on it are rehearsed, once, for
    some seconds. So are, for several workers, Dask and the way between two of them.

    Example:

        znn-dask plan em3d --output-size 24,24,24 --threads 8 --memory-limit 8GB

    Parameters
    ----------
    net
        A .znn file, a checkpoint, a ZNN .h5 file, or a name in the zoo.
    output_size
        Output patch Z,Y,X of one update; that of the plan file when not given.
    workers
        Workers of the cluster; each computes whole patches of a batch.
    threads
        Threads of each worker; all cores of this machine when not given.
    batch
        Patches of one update; one for each worker when not given.
    memory_limit
        Memory of a worker, such as 8GB. More is refused, with an output patch that would fit.
    algorithm
        How convolutions are computed; auto takes the fastest for each layer.
    set_
        Compute a layer so: direct, fft or tiled:Z,Y,X; may be given several times.
    plan
        A plan file of `znn-dask tune`, to show in place of the default.
    dtype
        Precision; float32, or that of the plan file, when not given.
    forward
        Plan the forward pass alone, as for prediction.
    refresh
        Measure all again.
    json_
        Print JSON instead of a table.
    gantt
        Draw the simulated schedule into this .svg, .html or .png file.
    """
    from znn_dask.cluster.machine import measure_cluster
    from znn_dask.taskgraph.distribution import distribute, shares
    from znn_dask.taskgraph.explain import table
    from znn_dask.taskgraph.machine import cores
    from znn_dask.taskgraph.plan import plan as make_plan
    from znn_dask.taskgraph.timings import stored

    for name, value in (("workers", workers), ("threads", threads), ("batch", batch)):
        if value is not None and value < 1:
            raise ValueError(f"--{name} {value}: give at least 1")
    patches = max(shares(workers, batch))  # refuse at once what cannot be placed or drawn
    if gantt is not None:
        from znn_dask.report.schedule import check_format, plan_gantt, save_gantt

        check_format(gantt)
    network = open_network(net)
    arithmetic, sources = _arithmetic(
        network, output_size, dtype, algorithm, plan, parse_methods(set_), training=not forward
    )
    if refresh or (workers > 1 and "hop_seconds" not in stored().constants):
        measure_cluster()
    made = make_plan(
        network,
        arithmetic.output_size,
        workers=workers,
        threads=threads or cores(),
        patches=patches,
        algorithm=algorithm,
        arithmetic=arithmetic,
        sources=sources,
        memory_limit=memory_limit,
        training=not forward,
        measure=True,
        refresh=refresh,
    )
    spread = distribute(made, batch)
    text = json.dumps(spread.to_dict(), indent=2) if json_ else table(made, batch)
    if gantt is not None:
        title = f"{net}, output patch {','.join(map(str, arithmetic.output_size))}"
        save_gantt(plan_gantt(spread, title=title), gantt)
        say(f"schedule drawn in {gantt}")
    print(text)


def _arithmetic(
    network: "Network",
    output_size: Size | None,
    dtype: str | None,
    algorithm: Algorithm,
    plan: Path | None,
    given: "dict[str, Method]",
    *,
    training: bool,
) -> "tuple[Arithmetic, Mapping[str, str]]":
    """What is planned, and who chose the method of each layer: a plan file, or the cost table."""
    from znn_dask.taskgraph.choice import choose_arithmetic
    from znn_dask.taskgraph.plan_file import read_plan

    if plan is not None:
        if algorithm != "auto" or given:
            raise ValueError("--plan says how each layer is computed: leave out --algorithm, --set")
        read = read_plan(plan, network, output_size, dtype)
        return read.arithmetic, read.sources
    if output_size is None:
        raise ValueError("give --output-size Z,Y,X, or --plan with a file that has one")
    arithmetic = choose_arithmetic(
        network, output_size, dtype or "float32", algorithm, training=training, given=given
    )
    chosen = {
        name: "given" if name in given or algorithm != "auto" else "default"
        for name in arithmetic.convolutions
    }
    return arithmetic, chosen
