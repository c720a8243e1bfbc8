"""A plan as a table for people."""

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from znn_dask.network.geometry import show

if TYPE_CHECKING:
    from znn_dask.taskgraph.plan import Plan


def table(plan: "Plan") -> str:
    """The plan's rows and totals as plain text, at most 120 columns."""
    grid = Table(title=_title(plan), title_justify="left", box=None, pad_edge=False)
    for name in ("layer", "type", "algorithm"):
        grid.add_column(name, no_wrap=True)
    for name in ("kernel", "tile", "channels", "output", "blocks"):
        grid.add_column(name, justify="right", no_wrap=True)
    for name in ("forward", "backward", "update", "spectra"):
        grid.add_column(name, justify="right", no_wrap=True)
    for row in plan.rows:
        grid.add_row(
            row.layer,
            row.kind,
            row.algorithm,
            show(row.kernel),
            show(row.tile) if row.tile else "",
            f"{row.channels[0]}→{row.channels[1]}",
            show(row.output),
            str(row.blocks),
            *(seconds(value) for value in (row.forward_s, row.backward_s, row.update_s)),
            nbytes(row.spectra_bytes) if row.spectra_bytes else "",
        )
    schedule = plan.schedule
    granule = (
        f"one Dask task holds {plan.steps_per_granule} updates"
        if plan.steps_per_granule
        else "one Dask task per pass"
    )
    what = "update" if plan.training else "forward pass"
    others = ""
    if plan.workers > 1:
        others = f" of each of {plan.workers} workers, a patch each, exchange not counted"
    summary = (
        f"predicted {what}: {seconds(plan.update_seconds)} on {plan.threads} thread(s){others} "
        f"({plan.basis}), "
        f"{schedule.efficiency:.0%} of the threads busy; work {seconds(schedule.work)}, "
        f"critical path {seconds(schedule.critical_path)}\n"
        f"predicted memory: {nbytes(plan.bytes)} · {granule} · arithmetic {plan.arithmetic.digest}"
    )
    text = io.StringIO()
    console = Console(file=text, width=140, color_system=None)
    console.print(grid)
    console.print(summary, soft_wrap=True, highlight=False)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def seconds(value: float) -> str:
    """`0.0123` as "12.3 ms"."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.0f} µs" if value else ""


def nbytes(value: int) -> str:
    """`2_500_000` as "2.5 MB"."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e3:.0f} kB"


def _title(plan: "Plan") -> str:
    arithmetic = plan.arithmetic
    return f"Plan for an output patch of {show(arithmetic.output_size)}, {arithmetic.dtype}"
