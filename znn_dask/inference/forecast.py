"""What a prediction will take, said before it begins; and what it took."""

import io
import math
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from znn_dask.inference.blocks import BlockPlan, Triple
from znn_dask.inference.need import Need, Room, mib
from znn_dask.inference.request import Request
from znn_dask.inference.sizing import fastest
from znn_dask.network.geometry import show
from znn_dask.taskgraph import Arithmetic
from znn_dask.taskgraph.plan import plan as make_plan
from znn_dask.training.progress import duration, si
from znn_dask.training.screen import in_notebook


def forecast(
    request: Request,
    plan: BlockPlan,
    arithmetic: Mapping[Triple, Arithmetic],
    need: Need,
    rooms: Sequence[Room],
    blocks: int,
) -> str:
    """One line: the block and what it wastes, and the speed, time and memory that are predicted.

    rooms: patches and threads of each process
    blocks: how many of the plan's are still to be computed
    """
    waste = request.cost.waste(plan.output_shape, plan.count, plan.compute_shape)
    text = f"block {show(plan.block)}, {plan.count} of them, {waste:.0%} of the work on halos"
    if not rooms:
        return f"{text}; no worker yet"
    rates = [1 / block_seconds(request, arithmetic, room.threads) for room in rooms]
    voxels = plan.voxels * blocks / plan.count
    total = blocks / sum(rates)
    threads = sum(room.threads for room in rooms)
    most = max(rooms, key=need.bytes)
    return (
        f"{text}; predicted {si(voxels / total)}voxels/s, {duration(total)} on {threads} threads, "
        f"{mib(need.bytes(most))} for {most.patches} patches under way"
        + (" in each process" if len(rooms) > 1 else "")
    )


def measured(voxels: int, seconds: float) -> str:
    """One line, afterwards."""
    return f"measured {si(voxels / seconds)}voxels/s, {duration(seconds)}"


def candidate_table(request: Request, threads: int, memory: int) -> str:
    """The blocks that come into question for the request, and the one that is taken.

    threads, memory: of this process, for which speed and memory are predicted
    """
    found = request.candidates()
    chosen = request.plan(None).block
    grid = Table(box=None, pad_edge=False, header_style="")
    grid.add_column("block", no_wrap=True)
    for title in ("blocks", "on halos", "voxels/s", "total", "threads", "patches", "memory"):
        grid.add_column(title, justify="right", no_wrap=True)
    grid.add_column("")
    for candidate in found:
        arithmetic = request.arithmetic(request.plan(candidate.block))
        need = request.cost.need(*arithmetic.values())
        room = need.fitting(threads, memory)
        total = candidate.count * block_seconds(request, arithmetic, room.threads)
        grid.add_row(
            show(candidate.block),
            str(candidate.count),
            f"{candidate.waste:.0%}",
            si(math.prod(request.shape) / total),
            duration(total),
            str(room.threads),
            str(room.patches),
            mib(need.bytes(room)),
            "chosen" if candidate.block == chosen else "",
        )
    text = io.StringIO()
    Console(file=text, width=100, color_system=None, force_jupyter=False).print(grid)
    if chosen not in [candidate.block for candidate in found]:
        text.write(f"begun with block {show(chosen)}, which is kept\n")
    elif chosen != fastest(found).block:
        text.write(f"{show(chosen)} is kept, with which this map was begun\n")
    return text.getvalue().rstrip()


def block_seconds(request: Request, arithmetic: Mapping[Triple, Arithmetic], threads: int) -> float:
    """Predicted seconds from one block to the next, by what is known of this machine."""
    return sum(
        make_plan(
            request.network,
            size,
            threads=threads,
            arithmetic=arithmetic[size],
            training=False,
        ).update_seconds
        for size in (v.shape(next(iter(arithmetic))) for v in request.variants)
    )


def say(text: str) -> None:
    """Where progress is shown."""
    # Notebooks set standard error in red, as if something were wrong.
    print(text, file=sys.stdout if in_notebook() else sys.stderr, flush=True)
