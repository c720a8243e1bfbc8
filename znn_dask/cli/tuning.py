"""`tune`: the fastest method for every convolution on this machine, as a plan file."""

from pathlib import Path
from typing import Literal

from znn_dask.cli.arguments import Methods, Size, Switch, open_network, parse_methods
from znn_dask.cli.errors import say


def tune(
    net: str,
    /,
    *,
    output_size: Size,
    dtype: Literal["float32", "float64"] = "float32",
    forward: Switch = False,
    set_: Methods = (),
    seconds: float = 120.0,
    refresh: Switch = False,
    out: Path | None = None,
) -> None:
    """Measure how each convolution is computed fastest on this machine, and write a plan file.

    A layer keeps its default unless another method is faster beyond doubt. What was measured is
    kept for this machine: the next time takes no time and finds the same.

    Example:

        znn-dask tune em3d --output-size 24,24,24 --out plan.json

    Parameters
    ----------
    net
        A .znn file, a checkpoint, a ZNN .h5 file, or a name in the zoo.
    output_size
        Output patch Z,Y,X of one update.
    dtype
        Precision.
    forward
        Tune for the forward pass alone.
    set_
        Compute a layer so, unmeasured: direct, fft or tiled:Z,Y,X; may be given several times.
    seconds
        Time to spend at most; layers that it is too short for keep their default.
    refresh
        Measure again.
    out
        Where the plan goes, for --plan of train, plan and bench.
    """
    from znn_dask.taskgraph.tuning import tune as run

    if seconds <= 0:
        raise ValueError(f"--seconds {seconds:g}: give a positive number")
    if out is not None and not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}")
    network = open_network(net)
    tuned = run(
        network,
        output_size,
        dtype=dtype,
        training=not forward,
        seconds=seconds,
        refresh=refresh,
        given=parse_methods(set_),
    )
    print(tuned.explain(), end="")
    if out is not None:
        tuned.save(out)
        say(f"plan in {out}; next: znn-dask train config.toml --plan {out}")
