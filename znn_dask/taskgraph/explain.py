"""A plan as a table for people."""

import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from znn_dask.network.geometry import show
from znn_dask.taskgraph.choice import multiplications
from znn_dask.taskgraph.distribution import Distribution, distribute

if TYPE_CHECKING:
    from znn_dask.taskgraph.plan import Plan


_WIDTH = 120
_PLACES = 4  # workers whose patches are listed


def table(plan: "Plan", batch: int | None = None) -> str:
    """The plan's rows and totals as plain text, at most 120 columns.

    `batch`: patches of an update, over the plan's workers; one for each when not given.
    """
    grid = Table(title=_title(plan), title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name in ("layer", "type", "algorithm", "source"):
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
            row.source,
            show(row.kernel),
            show(row.tile) if row.tile else "",
            f"{row.channels[0]}→{row.channels[1]}",
            show(row.output),
            str(row.blocks),
            *(seconds(value) for value in (row.forward_s, row.backward_s, row.update_s)),
            nbytes(row.spectra_bytes) + " again" * (row.spectra == "recomputed")
            if row.spectra_bytes
            else "",
        )
    lines = Table(box=None, pad_edge=False, show_header=False)
    lines.add_column(no_wrap=True)
    lines.add_column()
    for name, line in totals(distribute(plan, batch)):
        lines.add_row(f"{name}:", line)
    text = io.StringIO()
    console = Console(
        file=text, width=_WIDTH, color_system=None, highlight=False, force_jupyter=False
    )
    console.print(grid)
    console.print()
    console.print(lines)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def totals(spread: Distribution) -> Iterator[tuple[str, str]]:
    """(name, line) of what a plan says about a step as a whole."""
    plan, schedule = spread.plan, spread.schedule
    workers = len(spread.patches)
    where = f"{plan.threads} thread(s)" + (f" of each of {workers} workers" if workers > 1 else "")
    what = "update" if plan.training else "forward pass"
    yield (
        f"predicted {what}",
        f"{seconds(spread.step_seconds)} on {where} ({plan.basis}); parallel efficiency "
        f"{spread.efficiency:.0%}",
    )
    if not plan.training:
        voxels = spread.batch * math.prod(plan.arithmetic.output_size)
        yield "predicted speed", f"{voxels / spread.step_seconds:,.0f} voxels/s"
    if workers > 1 and plan.training:
        share = f"{seconds(spread.exchange_seconds) or 'no time'} of it beyond the computing"
        yield "exchange", f"{share}; {nbytes(spread.moved_bytes)} between workers"
    reason = "critical path" if schedule.bound > schedule.work / plan.threads else "work / threads"
    yield (
        "lower bound",
        f"{seconds(schedule.bound)} of computing ({reason}); the schedule takes "
        f"{seconds(schedule.step_seconds)}, {max(0.0, schedule.over_bound):.1%} more",
    )
    yield (
        "work",
        f"{seconds(schedule.work)}; critical path {seconds(schedule.critical_path)}; "
        f"{schedule.forced:.0f} of {schedule.tasks} tasks forced",
    )
    if spread.batch > 1:
        yield "patches", f"{spread.batch} in a batch: {_places(spread)}"
    yield "a Dask task holds", spread.granule
    memory = nbytes(plan.bytes) + (" for each worker" if workers > 1 else "")
    yield "predicted memory", memory
    if plan.arithmetic.fragments:
        yield "maps", _fragments(plan)
    yield "arithmetic", plan.arithmetic.digest


def _fragments(plan: "Plan") -> str:
    size = plan.arithmetic.output_size
    left, every = (
        multiplications(plan.network, size, fragments=fragments) for fragments in (True, False)
    )
    return (
        f"only the fragments that an output patch of {show(size)} reads, "
        f"{left / every:.0%} of the multiplications"
    )


def _places(spread: Distribution) -> str:
    places = [
        (f"{first}" if first == last else f"{first}-{last}") + f" on worker {worker}"
        for worker, (first, last) in enumerate(spread.placement())
    ]
    if len(places) > _PLACES:
        places = [*places[: _PLACES - 1], "...", places[-1]]
    return ", ".join(places)


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
