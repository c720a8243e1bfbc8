"""`bench`: how long a network takes."""

import json
from pathlib import Path
from typing import Literal

from znn_dask.cli.arguments import Size, Switch, open_network
from znn_dask.cli.network import Algorithm


def bench(
    net: str,
    /,
    *,
    output_size: Size,
    threads: int | None = None,
    mode: Algorithm = "auto",
    plan: Path | None = None,
    dtype: Literal["float32", "float64"] = "float32",
    forward_only: Switch = False,
    seconds: float = 20.0,
    json_: Switch = False,
) -> None:
    """Measure seconds per update and per forward pass of a network, and its memory.

    An update is measured twice: through Dask as training runs it, and as the same jobs without
    Dask. All figures are medians of interleaved runs.

    Example:

        znn-dask bench em3d --output-size 16,16,16 --threads 2 --json

    Parameters
    ----------
    net
        A .znn file, a checkpoint, a ZNN .h5 file, or a name in the zoo.
    output_size
        Output patch Z,Y,X.
    threads
        Threads; all cores when not given.
    mode
        How convolutions are computed; auto takes the fastest for each layer.
    plan
        A plan file of `znn-dask tune`, to measure in place of the default.
    dtype
        Precision.
    forward_only
        Do not measure updates.
    seconds
        Time to spend; slow networks take what a few updates need.
    json_
        Print JSON instead of a table.
    """
    from znn_dask.bench import measure, table
    from znn_dask.taskgraph.plan_file import read_plan

    network = open_network(net)
    if plan is not None and mode != "auto":
        raise ValueError(f"--plan says how each layer is computed: leave out --mode {mode}")
    read = None if plan is None else read_plan(plan, network, output_size, dtype)
    result = measure(
        network,
        output_size,
        threads=threads,
        algorithm=mode,
        arithmetic=read.arithmetic if read else None,
        sources=read.sources if read else None,
        dtype=dtype,
        forward_only=forward_only,
        seconds=seconds,
    )
    result = {"network": net, **result}
    print(json.dumps(result, indent=2) if json_ else table(result))
