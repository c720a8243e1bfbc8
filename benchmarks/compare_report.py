"""What `compare.py` found, for people."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from marks import GOALS, MARKS
from results import table
from roofline import Peaks

from znn_dask.taskgraph.machine import processor


@dataclass(frozen=True)
class Pair:
    """Seconds of both sides, the ratios of neighbouring rounds, and the share of the processors
    that other programs had meanwhile: medians."""

    ours: float
    torch: float
    ratio: float
    others: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """What was measured of one network; seconds and bytes.

    `first_update` of znn_dask is a forward and a backward pass with all that is compiled for them.
    """

    name: str
    update: Pair
    forward: Pair
    first_update: tuple[float, float]
    memory: tuple[int, int]
    roofline: tuple[float, float]
    difference: tuple[float, float]
    layouts: tuple[str, str]


PICTURE = "![times as fast as PyTorch and the original ZNN](compare.png)"
HEADER = (
    *("network", "update, ms: ours / PyTorch", "PyTorch / ours", "ZNN / ours"),
    *("forward, ms: ours / PyTorch", "PyTorch / ours", "ZNN / ours"),
    *("memory, MB: ours / PyTorch", "roofline of an update, ms", "reached", "of a forward pass"),
    *(
        "first update, s: ours / PyTorch",
        "outputs, gradients differ by",
        "others",
        "PyTorch's layout",
    ),
)


def report(found: Sequence[Comparison], one: Peaks, several: Peaks) -> str:
    """Table and explanation as Markdown."""
    return "\n\n".join(
        (_about(one, several), table(HEADER, map(_row, found)), *_means(found), PICTURE)
    )


def against_znn(comparison: Comparison) -> tuple[float, float] | None:
    """How many times faster than the original ZNN an update and a forward pass are: the ratio to
    PyTorch here times ZNN's to PyTorch there; None where ZNN was not measured."""
    mark = MARKS.get(comparison.name)
    if mark is None:
        return None
    return (
        comparison.update.ratio * mark.znn_update / mark.torch_update,
        comparison.forward.ratio * mark.znn_forward / mark.torch_forward,
    )


def geometric_mean(values: Iterable[float]) -> float:
    """Of positive numbers."""
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def _row(c: Comparison) -> tuple[str, ...]:
    marks = against_znn(c) or ()
    znn = [f"{mark:.1f}x" for mark in marks] or ["", ""]
    layouts = dict.fromkeys(c.layouts)
    return (
        c.name,
        _both(c.update.ours * 1e3, c.update.torch * 1e3),
        f"**{c.update.ratio:.2f}**",
        znn[0],
        _both(c.forward.ours * 1e3, c.forward.torch * 1e3),
        f"**{c.forward.ratio:.2f}**",
        znn[1],
        " / ".join(f"{nbytes / 1e6:.0f}" for nbytes in c.memory),
        f"{c.roofline[0] * 1e3:.3g}",
        f"{c.roofline[0] / c.update.ours:.0%}",
        f"{c.roofline[1] / c.forward.ours:.0%}",
        _both(*c.first_update),
        ", ".join(f"{d:.0e}" for d in c.difference),
        f"{max(c.update.others, c.forward.others):.0%}",
        "; ".join(layouts),
    )


def _both(ours: float, torch: float) -> str:
    return f"{ours:.3g} / {torch:.3g}"


def _means(found: Sequence[Comparison]) -> list[str]:
    known = [marks for marks in map(against_znn, found) if marks is not None]
    lines = []
    for what, values in (
        ("PyTorch", [(c.update.ratio, c.forward.ratio) for c in found]),
        ("the original ZNN", known),
    ):
        if values:
            updates, forwards = zip(*values, strict=True)
            lines.append(
                f"* against {what}, geometric mean over {len(values)} networks: update"
                f" {geometric_mean(updates):.2f}x (worst {min(updates):.2f}x), forward pass"
                f" {geometric_mean(forwards):.2f}x (worst {min(forwards):.2f}x)"
            )
    missed = [
        f"{c.name} ({c.update.ratio:.2f}, {c.forward.ratio:.2f} of {goal:.0f})"
        for c in found
        if min(c.update.ratio, c.forward.ratio) < (goal := GOALS.get(c.name, 1.0))
    ]
    lines.append(f"* goal against PyTorch missed (update, forward): {', '.join(missed) or 'none'}")
    return ["\n".join(lines)]


def _about(one: Peaks, several: Peaks) -> str:
    rates = "; ".join(
        f"{p.threads} thread(s): sgemm {p.sgemm / 1e9:.0f} GFLOP/s, transforms"
        f" {p.transform / 1e9:.0f} GFLOP/s"
        for p in (one, several)
    )
    return (
        f"`python benchmarks/compare.py --threads {several.threads} --write` on {processor()}. "
        "One patch; medians, and medians of the ratios of neighbouring rounds. Ours is training"
        " through Dask in this process; PyTorch is eager, `conv3d` and `max_pool3d` dilated (or"
        " two-dimensional ones where a network is flat in z), the same loss, fused SGD with"
        " momentum, denormals flushed, in the faster layout of its maps. A forward pass has its"
        " kernel spectra at hand; one patch after the other. Memory is what the process had at most"
        " above the idle one with everything imported; a first update includes what is compiled"
        " (ours: without the update itself). Others: share of the processors that other programs"
        " had during the rounds that count; what is not near 0 is not to be trusted, least of all"
        " PyTorch's side, whose threads wait for each other.\n\n"
        "ZNN / ours is not measured here: it is our ratio to PyTorch times the ratio of ZNN's to"
        " PyTorch's seconds measured once on another machine of the same class (`marks.py`).\n\n"
        "Roofline: seconds that the counted arithmetic of the convolutions would take at this"
        f" machine's peaks ({rates}), and the share of it that is reached (`roofline.py`)."
    )
