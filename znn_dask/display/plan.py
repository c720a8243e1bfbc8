"""Plans: a table of the layers, the totals, and the simulated schedule as a Gantt chart."""

from znn_dask.display.page import STYLE, facts, harmless, note, page, table
from znn_dask.network.geometry import show
from znn_dask.report.gantt import Chart
from znn_dask.report.gantt_svg import svg
from znn_dask.report.schedule import plan_gantt
from znn_dask.taskgraph.distribution import distribute
from znn_dask.taskgraph.explain import nbytes, seconds, totals
from znn_dask.taskgraph.plan import LayerRow, Plan

_COLUMNS = (
    *("layer", "type", "kernel", "channels", "output", "algorithm", "chosen by", "tile"),
    *("blocks", "forward", "backward", "update", "spectra"),
)
_NUMBERS = ("blocks", "forward", "backward", "update", "spectra")
_MOST_TASKS = 2000  # of a step; a chart of more is slow to make, and too dense to read


@harmless
def plan_html(plan: Plan) -> str:
    """Table, totals, and the schedule of a step where it is small enough to be read."""
    arithmetic = plan.arithmetic
    spread = distribute(plan)
    columns = _COLUMNS if plan.training else _without(_COLUMNS)
    rows = [_cells(row) if plan.training else _without(_cells(row)) for row in plan.rows]
    drawn = (
        f'<div class="scroll">{svg(plan_gantt(spread, title="Simulated schedule"))}</div>'
        if len(plan.tasks) <= _MOST_TASKS
        else note(f"{len(plan.tasks):,} tasks in a step: `znn-dask plan --gantt` draws them")
    )
    what = "training" if plan.training else "prediction"
    return page(
        f"Plan of {what}: output patch {show(arithmetic.output_size)}, {arithmetic.dtype}",
        table(columns, rows, _NUMBERS),
        note(f"seconds on one core, {plan.basis}; bytes while a step runs"),
        facts(totals(spread)),
        drawn,
    )


@harmless
def chart_html(chart: Chart) -> str:
    """A Gantt chart in the colours of the page around it."""
    return f'{STYLE}<div class="znn"><div class="scroll">{svg(chart)}</div></div>'


def _cells(row: LayerRow) -> tuple[str, ...]:
    spectra = f"{nbytes(row.spectra_bytes)} {row.spectra}" if row.spectra_bytes else ""
    return (
        *(row.layer, row.kind, show(row.kernel), f"{row.channels[0]} → {row.channels[1]}"),
        *(show(row.output), row.algorithm, row.source, show(row.tile) if row.tile else ""),
        str(row.blocks),
        *(seconds(value) for value in (row.forward_s, row.backward_s, row.update_s)),
        spectra,
    )


def _without(cells: tuple[str, ...]) -> tuple[str, ...]:
    """Cells of a row without those of training alone."""
    return (*cells[:-3], cells[-1])
