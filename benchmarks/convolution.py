"""Single layers on one core: our algorithms and PyTorch, interleaved, against the goals.

    python benchmarks/convolution.py [--only large,small] [--torch PYTHON] [--write]

Sections: large (5x5x5 and up), three (3x3x3), dilated (large ones at dilations 2 and 4), small
(narrow and flat ones), pool (max-filter and max-pooling). A forward pass has its kernel spectra at
hand; an update is forward and backward pass, new kernel spectra and SGD with momentum. Figures are
milliseconds of CPU time on both sides, the ratio the median of neighbouring rounds.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from compare import interpreter
from contender import Contender
from layers import SECTIONS, Layer
from results import table, write_section
from threadpoolctl import threadpool_limits

from znn_dask.kernels.convolution import Algorithm, Convolution, make_convolution
from znn_dask.kernels.costs import choose_algorithm, cost, default_tile
from znn_dask.kernels.denormals import denormals_flushed
from znn_dask.kernels.geometry import Triple, whole
from znn_dask.kernels.memory import empty
from znn_dask.kernels.pooling import MaxFilter, MaxPool
from znn_dask.kernels.update import sgd_step
from znn_dask.taskgraph.machine import processor

KINDS = ("update", "forward")
ALGORITHMS: tuple[Algorithm, ...] = ("direct", "fft", "tiled")
_ROUNDS = 3
_MOMENT = 0.03  # seconds of CPU time of a round at least
_LONGEST = 0.5  # predicted seconds of an update by an algorithm that was not chosen
HEADER = (
    *("layer", "chosen", "goal", "update: ours / PyTorch", "ratio", "forward: ours / PyTorch"),
    *("ratio", "batch of two: update, forward", "direct / whole map / tiled", "PyTorch's layout"),
)


class Ours(Protocol):
    """A layer with its maps."""

    def forward(self) -> object: ...

    def update(self) -> object: ...


class OurConvolution:
    """A convolution with its maps and spectra, the output in one block."""

    def __init__(self, conv: Convolution) -> None:
        self._conv = conv
        self._block = whole(conv.output_size)
        self._channels = slice(0, conv.channels[0])
        self._x = _random(*conv.input_size, conv.channels[0])
        self._w = _random(*conv.kernel, *conv.channels)
        self._v = _random(*self._w.shape)
        self._g = _random(*conv.output_size, conv.channels[1])
        self._X, self._W, self._G = self._x, self._w, self._g
        if conv.transforms:
            self._X = conv.allocate_input_spectrum()
            self._W = conv.allocate_kernel_spectrum()
            self._G = conv.allocate_gradient_spectrum()
            conv.kernel_spectrum(self._w, self._channels, self._W)

    def forward(self) -> np.ndarray:
        conv = self._conv
        if conv.transforms:
            conv.input_spectrum(self._x, self._block, self._X)
            return conv.output(conv.forward(self._X, self._W, self._block), self._block)
        return conv.forward(self._X, self._W, self._block)

    def update(self) -> None:
        conv = self._conv
        self.forward()
        if conv.transforms:
            conv.gradient_spectrum(self._g, self._block, self._G)
        if conv.channels[0] > 1:
            conv.input_gradient(self._G, self._W, self._block)
        gradient = conv.kernel_gradient(self._X, self._G, self._channels)
        sgd_step(self._w, self._v, gradient, 1e-12, 0.9, 0.0, 1.0)
        if conv.transforms:
            conv.kernel_spectrum(self._w, self._channels, self._W)


class OurMaximum:
    """Max-filter or max-pooling with its maps."""

    def __init__(self, layer: Layer) -> None:
        self._maximum: MaxFilter | MaxPool = MaxPool(layer.window)
        if layer.kind == "max_filter":
            self._maximum = MaxFilter(layer.window, layer.dilation)
        self._x = _random(*layer.input, layer.channels[0])
        self._g = _random(*layer.output, layer.channels[0])

    def forward(self) -> object:
        return self._maximum.forward(self._x)

    def update(self) -> None:
        _, residue = self._maximum.forward(self._x)
        self._maximum.backward(self._g, residue, self._x.shape)


@dataclass(frozen=True)
class Measured:
    """Milliseconds: of each kind of run ours, PyTorch's, PyTorch's per patch of two; the ratios;
    updates by each algorithm, as far as they were measured."""

    layer: Layer
    chosen: str
    ours: dict[str, float]
    torch: dict[str, float]
    two: dict[str, float]
    ratio: dict[str, float]
    updates: dict[str, float]
    layouts: dict[str, str]

    @property
    def missed(self) -> bool:
        """Whether an update or a forward pass is slower than its goal."""
        return min(self.ratio.values()) < self.layer.goal


def candidates(layer: Layer) -> tuple[str, dict[str, Ours], Ours]:
    """The chosen algorithm, updates by it and by others that do not take too long, and what is
    chosen for forward passes."""
    if layer.kind != "conv":
        ours = OurMaximum(layer)
        return "", {"": ours}, ours
    shape = (layer.output, layer.window, layer.dilation, layer.channels)
    trained = layer.channels[0] > 1

    def convolution(algorithm: Algorithm, tile: Triple | None) -> Convolution:
        return make_convolution(
            algorithm, layer.input, layer.window, layer.dilation, layer.channels, tile=tile
        )

    algorithm, tile = choose_algorithm(*shape, input_gradient=trained)
    updates: dict[str, Ours] = {algorithm: OurConvolution(convolution(algorithm, tile))}
    for other in ALGORITHMS:
        if other != algorithm and layer.window != (1, 1, 1):
            conv = convolution(other, default_tile(*shape, input_gradient=trained))
            if cost(conv).update() <= _LONGEST:
                updates[other] = OurConvolution(conv)
    forward = OurConvolution(convolution(*choose_algorithm(*shape, training=False)))
    name = algorithm if tile is None else "x".join(map(str, tile))
    return name, updates, forward


@denormals_flushed()
def measure(layer: Layer, torch: Contender) -> Measured:
    """Both sides in turn."""
    layouts = torch.ask("layer", layer.to_dict())
    chosen, updates, forward = candidates(layer)
    first = next(iter(updates))
    runs: dict[tuple[str, str], Callable[[int], float]] = {}
    for name, ours in updates.items():
        runs["update", name] = _timed(ours.update)
    runs["forward", first] = _timed(forward.forward)
    for kind in KINDS:
        runs[kind, "torch"] = partial(torch.ask, "run", kind)
    counts, times = {}, {key: list[float]() for key in runs}
    for key, run in runs.items():
        run(1)
        counts[key] = max(1, round(_MOMENT / max(1e-6, run(1))))
    for _ in range(_ROUNDS):
        for key, run in runs.items():
            times[key].append(run(counts[key]))
    middle = {key: statistics.median(taken) * 1e3 for key, taken in times.items()}
    two = {}
    if min(layer.window[1:]) <= 3:  # else PyTorch always takes oneDNN
        two = {k: 1e3 * torch.ask("batch_of_two", k, counts[k, "torch"]) for k in KINDS}
    return Measured(
        layer,
        chosen,
        {kind: middle[kind, first] for kind in KINDS},
        {kind: middle[kind, "torch"] for kind in KINDS},
        two,
        {
            kind: statistics.median(
                t / o for o, t in zip(times[kind, first], times[kind, "torch"], strict=True)
            )
            for kind in KINDS
        },
        {name: middle["update", name] for name in updates if name},
        layouts,
    )


def row(m: Measured) -> tuple[str, ...]:
    """One line of the table; a ratio in bold misses the goal."""
    cells = [str(m.layer), m.chosen, f"{m.layer.goal:.0f}x"]
    for kind in KINDS:
        ratio = f"{m.ratio[kind]:.2f}"
        cells.append(f"{m.ours[kind]:.3g} / {m.torch[kind]:.3g}")
        cells.append(f"**{ratio}**" if m.ratio[kind] < m.layer.goal else ratio)
    cells.append(", ".join(f"{m.two[kind]:.3g}" for kind in KINDS) if m.two else "")
    cells.append(" / ".join(f"{m.updates[a]:.3g}" if a in m.updates else "-" for a in ALGORITHMS))
    cells.append("; ".join(dict.fromkeys(m.layouts.values())))
    return tuple(cells)


def report(sections: dict[str, list[Measured]]) -> str:
    """Tables and what is missed as Markdown."""
    only = ",".join(sections)
    parts = [
        f"`python benchmarks/convolution.py --only {only} --write` on {processor()}, one thread;"
        " milliseconds of CPU time of an update and of a forward pass with kernel spectra at hand,"
        " and median ratios PyTorch / ours of interleaved rounds. **Bold** misses the goal. For one"
        " small patch on one thread PyTorch leaves oneDNN aside for its own loops: what it takes"
        " per patch of a batch of two stands in a column of its own where that may be. Last our"
        " updates by each algorithm (-: it would take long) and PyTorch's faster layout."
    ]
    for name, found in sections.items():
        missed = [m for m in found if m.missed]
        parts.append(f"### {name.capitalize()}")
        parts.append(table(HEADER, map(row, found)))
        parts.append(f"{len(found) - len(missed)} of {len(found)} layers reach their goal.")
        if missed:
            parts[-1] += " Missed:\n\n" + "\n".join(
                f"* {m.layer}: update {m.ratio['update']:.2f}, forward {m.ratio['forward']:.2f}"
                f" of {m.layer.goal:.0f}"
                for m in missed
            )
    return "\n\n".join(parts)


def _timed(step: Callable[[], object]) -> Callable[[int], float]:
    def run(count: int) -> float:
        begin = time.process_time()
        for _ in range(count):
            step()
        return (time.process_time() - begin) / count

    return run


def _random(*shape: int) -> np.ndarray:
    array = empty(shape, np.float32)
    array[...] = np.random.default_rng(0).standard_normal(shape, np.float32)
    return array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas")
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that has torch")
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]!r}: give some of {', '.join(SECTIONS)}")
    try:
        python = interpreter(options.torch)
    except ValueError as error:
        parser.exit(2, f"convolution.py: {error}\n")
    found: dict[str, list[Measured]] = {name: [] for name in names}
    with threadpool_limits(1), Contender(python, "torch_layer.py", 1) as torch:
        for name in names:
            for layer in SECTIONS[name]:
                found[name].append(measure(layer, torch))
                print("  ".join(row(found[name][-1])), file=sys.stderr, flush=True)
    text = report(found)
    print(text)
    if options.write:
        for name in names:
            write_section(f"Layers beside PyTorch: {name}", report({name: found[name]}))


if __name__ == "__main__":
    main()
