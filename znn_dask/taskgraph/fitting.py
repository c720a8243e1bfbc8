"""A plan within a memory limit: what to give up, in the order of what it costs.

Everything is kept if that fits. Then kernel gradients come promptly, which costs no work; then
input spectra are made again, those first that free most bytes per second; last, fewer steps are
under way.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from znn_dask.kernels import storage
from znn_dask.kernels.geometry import Triple
from znn_dask.network.geometry import show
from znn_dask.taskgraph.arithmetic import PlanError
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.execution import Execution

if TYPE_CHECKING:
    from znn_dask.taskgraph.plan import Plan


def fit(made: "Plan", limit: int, algorithm: str = "auto") -> "Plan":
    """The plan with the cheapest execution whose predicted bytes are at most `limit`.

    `algorithm` is what the plan was made with; it serves to find an output size that would fit.

    Raises
    ------
    PlanError
        If none is; the message says how much is needed at least, and which output size would fit.
    """
    from znn_dask.taskgraph.explain import nbytes

    least = made
    for least in _candidates(made):
        if least.bytes <= limit:
            return least
    size = made.arithmetic.output_size
    fits = _fitting_size(made, limit, algorithm)
    again = "" if least.execution == made.execution else f", {nbytes(least.bytes)} recomputing"
    raise PlanError(
        f"output size {show(size)} needs {nbytes(made.bytes)}{again}, the limit is "
        f"{nbytes(limit)}; "
        + (f"{show(fits)} would fit" if fits else "no smaller output patch would fit")
    )


def _candidates(made: "Plan") -> Iterator["Plan"]:
    """The plan with ever less memory, and ever more time."""
    yield made
    if not made.training:
        return
    execution = Execution(prompt=True, steps_ahead=made.execution.steps_ahead)
    yield replace(made, execution=execution)
    for edge in _by_gain(made):
        execution = replace(execution, recomputed=execution.recomputed | {edge})
        yield replace(made, execution=execution)
    for steps_ahead in reversed(range(execution.steps_ahead)):
        yield replace(made, execution=replace(execution, steps_ahead=steps_ahead))


def _by_gain(made: "Plan") -> list[str]:
    """Edges that keep input spectra, those first that free most bytes per second of work."""

    def gain(edge: str) -> float:
        blocks = made.layers.blocks[made.network.edge(edge).output]
        seconds = sum(made.cost.input_spectrum(edge, block) for block in blocks)
        return storage.input_spectrum_bytes(made.layers.convolutions[edge]) / seconds

    return sorted(filter(made.layers.transformed, made.layers.convolutions), key=gain, reverse=True)


def _fitting_size(made: "Plan", limit: int, algorithm: str) -> Triple | None:
    """The largest of ever smaller output sizes that fits, recomputing what it must."""
    z, y, x = made.arithmetic.output_size
    while max(z, y, x) > 1:
        z, y, x = (max(1, n * 3 // 4) for n in (z, y, x))
        arithmetic = choose_arithmetic(
            made.network, (z, y, x), made.arithmetic.dtype, algorithm, training=made.training
        )
        *_, least = _candidates(replace(made, arithmetic=arithmetic))
        if least.bytes <= limit:
            return z, y, x
    return None
