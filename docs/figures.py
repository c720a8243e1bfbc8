"""Draws the pictures of the explanation pages from the package itself: nothing here is invented.

    python docs/figures.py

* cost per voxel against kernel size: the cost table by which algorithms are chosen
* dense computation: what an output voxel reads, from a network's own sizes and dilations
* schedules with and without type 2 in the gaps: the planner's tasks under two rules, simulated
* what handing out tasks costs: the planner's tasks, and the constants that it counts with
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np

import znn_dask as znn
from znn_dask.kernels import costs
from znn_dask.kernels.convolution import Algorithm, make_convolution
from znn_dask.report.gantt import BLUE, ORANGE, VERMILION, chart
from znn_dask.report.gantt_svg import svg
from znn_dask.taskgraph.machine import Machine
from znn_dask.taskgraph.plan import Plan
from znn_dask.taskgraph.rule import Rule
from znn_dask.taskgraph.schedule import Schedule, simulate

matplotlib.use("Agg")
from matplotlib import pyplot

CHECKOUT = Path(__file__).resolve().parents[1]
IMAGES = CHECKOUT / "docs" / "images"
GREEN, INK, PALE, LINE = "#009E73", "#1f2933", "#eef1f4", "#9aa5b1"
CHANNELS = (24, 24)
OUTPUT = (32, 32, 32)
WIDTHS = tuple(range(2, 14))


# --- what a voxel costs ---


def cost_per_voxel(width: int, algorithm: Algorithm) -> float:
    """Counted nanoseconds per output voxel of an update of one layer, on one core."""
    kernel, voxels = (width,) * 3, math.prod(OUTPUT)
    tile = costs.default_tile(OUTPUT, kernel, (1, 1, 1), CHANNELS) if algorithm == "tiled" else None
    inputs = tuple(n + width - 1 for n in OUTPUT)
    conv = make_convolution(
        algorithm, inputs, kernel, (1, 1, 1), CHANNELS, np.dtype(np.float32), tile=tile
    )
    return costs.cost(conv).update() / voxels * 1e9


def draw_costs() -> str:
    """Cost per voxel against kernel size, by algorithm."""
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "znn", "font.size": 11}):
        figure, axes = pyplot.subplots(figsize=(7.6, 4.3), layout="constrained")
        for algorithm, name, colour, mark in (
            ("direct", "direct", VERMILION, "o"),
            ("fft", "transform of whole maps", BLUE, "s"),
            ("tiled", "transform of tiles", GREEN, "^"),
        ):
            values = [cost_per_voxel(width, algorithm) for width in WIDTHS]
            axes.plot(WIDTHS, values, color=colour, marker=mark, markersize=5)
            axes.annotate(
                name,
                (WIDTHS[-1], values[-1]),
                (8, 0),
                textcoords="offset points",
                color=colour,
                va="center",
            )
        axes.set_yscale("log")
        axes.set_xticks(WIDTHS, [f"{width}³" for width in WIDTHS])
        axes.set_xlim(WIDTHS[0] - 0.4, WIDTHS[-1] + 4.1)
        axes.set_xlabel("kernel")
        axes.set_ylabel("ns per output voxel, one core")
        axes.set_title("An update of a layer, 24 to 24 maps of 32×32×32", loc="left")
        axes.grid(color="#e3e8ee")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        return _svg_text(figure)


# --- dense computation ---

CELL, GAP, LEFT = 34, 62, 150


def dense_network() -> znn.Network:
    """Convolution, max-filter of stride 2, convolution: one axis is enough to see it."""
    return (
        znn.Network()
        .input()
        .conv("first", 1, (1, 1, 3), node="convolution")
        .max_filter("filter", (1, 1, 2), stride=(1, 1, 2), node="maximum")
        .conv("second", 1, (1, 1, 3), node="output")
    )


def reads(network: znn.Network, voxel: int) -> dict[str, list[int]]:
    """Node group -> voxels along x that one output voxel depends on."""
    found = {network.outputs[0].name: [voxel]}
    for edge in reversed(
        [e for node in network.topological for e in network.edges_into(node.name)]
    ):
        step = network.dilation(edge.input)[2]
        seen = found.setdefault(edge.input, [])
        for x in found[edge.output]:
            seen += [x + i * step for i in range(edge.size[2]) if x + i * step not in seen]
    return found


def draw_dense() -> str:
    """Rows of voxels, with what two neighbouring outputs read."""
    network = dense_network()
    sizes = {name: size[2] for name, size in network.sizes((1, 1, 6)).items()}
    rows = [node.name for node in network.topological]
    first, second = reads(network, 2), reads(network, 3)
    width = LEFT + max(sizes.values()) * CELL + 20
    height = 92 + GAP * (len(rows) - 1) + CELL + 16
    bottom = {name: 80 + GAP * i for i, name in enumerate(rows)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for i, (colour, text) in enumerate(((BLUE, "third output"), (ORANGE, "fourth output"))):
        parts.append(f'<rect x="16" y="{14 + 24 * i}" width="18" height="18" fill="{colour}"/>')
        parts.append(f'<text x="42" y="{28 + 24 * i}">what the {text} reads</text>')
    parts += _cones(network, first, sizes, bottom, BLUE)
    parts += _cones(network, second, sizes, bottom, ORANGE)
    for name in rows:
        y = bottom[name]
        parts.append(f'<text x="{LEFT - 14}" y="{y + 22}" text-anchor="end">{name}</text>')
        for x in range(sizes[name]):
            parts += _cell(_left(x, sizes[name], sizes), y, x in first[name], x in second[name])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _left(x: float, size: int, sizes: dict[str, int]) -> float:
    return LEFT + (x + (max(sizes.values()) - size) / 2) * CELL


def _cell(x: float, y: float, blue: bool, orange: bool) -> Iterator[str]:
    edge = CELL - 3
    fill = BLUE if blue else ORANGE if orange else PALE
    yield f'<rect x="{x:g}" y="{y:g}" width="{edge}" height="{edge}" fill="{fill}"/>'
    if blue and orange:
        corners = f"{x + edge:g},{y:g} {x + edge:g},{y + edge:g} {x:g},{y + edge:g}"
        yield f'<polygon points="{corners}" fill="{ORANGE}"/>'


def _cones(
    network: znn.Network,
    read: dict[str, list[int]],
    sizes: dict[str, int],
    top: dict[str, int],
    colour: str,
) -> Iterator[str]:
    """A line from each voxel to those of the map before that it is computed from."""
    middle = (CELL - 3) / 2
    for edge in network.edges:
        step = network.dilation(edge.input)[2]
        for x in read[edge.output]:
            for i in range(edge.size[2]):
                ends = [
                    f"{_left(at, sizes[name], sizes) + middle:g} {top[name] + middle:g}"
                    for at, name in ((x, edge.output), (x + i * step, edge.input))
                ]
                yield f'<path d="M{ends[0]}L{ends[1]}" stroke="{colour}" stroke-width="1.6"/>'


# --- two types of tasks ---

THREADS = 4
SHOWN = 1.6  # steps of the faster rule


def planned() -> Plan:
    """A 3D network of usual size; nothing is measured, so every machine draws the same."""
    return znn.plan(znn.zoo.em3d(), (20, 20, 20), threads=THREADS, slowness=1.0)


def schedules() -> dict[str, Schedule]:
    """The same tasks by ZNN's rule, and layer by layer with gradients and updates at the end."""
    sys.path.insert(0, str(CHECKOUT / "benchmarks"))
    from policies import policies

    made = planned()
    rules: dict[str, Callable[[], Rule]] = policies(made.tasks)
    wait = made.machine.job_seconds
    return {
        name: simulate(made.tasks, THREADS, job_seconds=wait, rule=rules[name])
        for name in ("ZNN", "barriers")
    }


def draw_schedule(name: str, title: str) -> str:
    """A steady step under one of the two rules; both pictures have the same scale."""
    made = schedules()
    schedule, length = made[name], SHOWN * made["ZNN"].step_seconds
    begin = schedule.starts[1]
    note = (
        f"a step takes {schedule.step_seconds * 1e3:.1f} ms; threads busy {schedule.efficiency:.0%}"
    )
    drawn = chart(schedule.spans, title=title, note=note, window=(begin, begin + length))
    ruler = (f"{schedule.step_seconds * 1e3:.1f} ms", 0.0, schedule.step_seconds)
    return svg(replace(drawn, rulers=(ruler,)))


# --- two levels ---


def draw_levels() -> str:
    """Arithmetic of an update beside what handing out its tasks takes, by who does it."""
    machine = Machine()
    cases = {
        "small3d, 16×16×16": znn.plan(znn.zoo.small3d(), (16, 16, 16), threads=2, slowness=1.0),
        "em3d, 20×20×20": znn.plan(znn.zoo.em3d(), (20, 20, 20), threads=2, slowness=1.0),
        "n4, 1×64×64": znn.plan(znn.zoo.n4(), (1, 64, 64), threads=2, slowness=1.0),
        "vd2d3d, 4×32×32": znn.plan(znn.zoo.vd2d3d(), (4, 32, 32), threads=2, slowness=1.0),
    }
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "znn", "font.size": 11}):
        figure, axes = pyplot.subplots(figsize=(7.6, 3.9), layout="constrained")
        for i, made in enumerate(cases.values()):
            count = len(made.tasks)
            bars = (
                (made.schedule.work / 2, BLUE),
                (count * machine.granule_seconds, VERMILION),
                (count * machine.job_seconds / 2, GREEN),
            )
            for j, (seconds, colour) in enumerate(bars):
                y = i + (j - 1) * 0.26
                axes.barh(y, seconds * 1e3, 0.24, left=1e-2, color=colour)
                axes.text(seconds * 1e3 * 1.12 + 1e-2, y, f"{seconds * 1e3:.3g}", va="center")
        axes.set_xscale("log")
        axes.set_xlim(1e-1, 4e3)
        names = [f"{name}\n{len(made.tasks)} tasks" for name, made in cases.items()]
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel("ms per update")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for j, (text, colour) in enumerate(
            (
                ("arithmetic, on two threads", BLUE),
                ("as tasks of Dask, 1 ms each", VERMILION),
                ("as jobs of the engine, 20 µs each", GREEN),
            )
        ):
            axes.text(0.99, 0.98 - 0.075 * j, text, color=colour, transform=axes.transAxes,
                      ha="right", va="top")  # fmt: skip
        return _svg_text(figure)


def _svg_text(figure: "matplotlib.figure.Figure") -> str:
    import io

    stream = io.StringIO()
    figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None})
    pyplot.close(figure)
    lines = stream.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


FIGURES: dict[str, Callable[[], str]] = {
    "cost-per-voxel.svg": draw_costs,
    "dense.svg": draw_dense,
    "schedule-znn.svg": lambda: draw_schedule("ZNN", "Type 2 in the gaps (ZNN's rule)"),
    "schedule-barriers.svg": lambda: draw_schedule(
        "barriers", "Layer by layer, gradients and updates at the end"
    ),
    "two-levels.svg": draw_levels,
}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (IMAGES / name).write_text(draw(), encoding="utf-8")
