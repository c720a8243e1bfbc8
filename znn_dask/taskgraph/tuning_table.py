"""What a tuning measured, as a table for people."""

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from znn_dask.network.geometry import show
from znn_dask.taskgraph.explain import seconds

if TYPE_CHECKING:
    from znn_dask.taskgraph.tuning import Contest, Tuned

_WIDTH = 140
_SHOWN = 4  # methods that are listed with their time


def table(tuned: "Tuned") -> str:
    """A row for each conv layer: default and chosen method, and what each one measured takes."""
    arithmetic = tuned.arithmetic
    what = "an update" if tuned.training else "a forward pass"
    grid = Table(
        title=f"Convolutions of {what}, output patch {show(arithmetic.output_size)}, "
        f"{arithmetic.dtype}; seconds of one core, half where two can share them",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for name in ("layer", "channels", "kernel", "default", "now", "source"):
        grid.add_column(name, no_wrap=True)
    grid.add_column("gain", justify="right", no_wrap=True)
    grid.add_column("measured")
    for name, choice in arithmetic.convolutions.items():
        edge = tuned.network.edge(name)
        channels = (tuned.network.node(node).size for node in (edge.input, edge.output))
        contest, source = tuned.contests.get(name), tuned.sources[name]
        grid.add_row(
            name,
            "→".join(map(str, channels)),
            show(edge.size),
            str(contest.default) if contest else "",
            str(choice.method),
            source,
            f"{contest.gain:.2f}x" if contest and source == "tuned" else "",
            _measured(contest) if contest else "",
        )
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None, highlight=False, force_jupyter=False).print(
        grid
    )
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join([*lines, "", f"arithmetic: {arithmetic.digest}"]) + "\n"


def _measured(contest: "Contest") -> str:
    if contest.layer.shape.kernel == (1, 1, 1):
        return "1,1,1 is always direct"
    if not contest.seconds:
        return "not measured: no time left"
    typical = contest.typical
    shown = [f"{method} {seconds(taken)}" for method, taken in list(typical.items())[:_SHOWN]]
    return ", ".join(shown) + (f", {len(typical) - _SHOWN} slower" if len(typical) > _SHOWN else "")
