"""What a dilated convolution costs beside a dense one, per output voxel, on one core.

    OPENBLAS_NUM_THREADS=1 python benchmarks/dilation.py [--only 1x3x3,tiled] [--write]

A convolution of dilation s is the dense one on s interleaved sub-grids per axis. It is compared

* with the dense convolution of the same number of outputs. A dilated one reads a larger map, and
  by FFT its sub-grids fill tiles less well: more work, wherever sub-grids are small;
* for direct convolution, with the dense one on the same sub-grids lying one after the other, as
  fragments: equal work, another layout.

Nanoseconds of CPU time per output voxel (output with input transform, gradients with theirs), least
of the rounds, taken in turn; in brackets relative to dense, and to fragments where they exist.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from results import table, write_section
from threadpoolctl import threadpool_limits

from znn_dask.kernels.convolution import Algorithm, make_convolution
from znn_dask.kernels.costs import default_tile
from znn_dask.kernels.geometry import Triple, whole
from znn_dask.kernels.memory import empty
from znn_dask.kernels.pooling import MaxFilter

LAYERS: tuple[tuple[int, Triple, Triple], ...] = (  # channels, kernel, output
    (24, (1, 3, 3), (1, 160, 160)),
    (60, (1, 3, 3), (1, 104, 104)),
    (48, (1, 4, 4), (1, 160, 160)),
    (16, (3, 3, 3), (48, 48, 48)),
    (40, (3, 3, 3), (24, 24, 24)),
    (16, (5, 5, 5), (48, 48, 48)),
)
FILTERS = ((24, (1, 2, 2), (1, 160, 160)), (40, (2, 2, 2), (48, 48, 48)))
DILATIONS = (1, 2, 4, 8)
LEAST_FRAGMENT = 1000  # voxels: below, it would be the calls that are measured
ROUNDS = 3
STEPS = ("forward", "input gradient", "kernel gradient")
HEADER = ("channels", "window", "outputs", "algorithm", "dilation", "tile", *STEPS)

Steps = Mapping[str, Callable[[], object]]


def random(*shape: int) -> np.ndarray:
    array = empty(shape, np.float32)
    array[...] = np.random.default_rng(0).standard_normal(shape, np.float32)
    return array


def spread(window: Triple, dilation: int) -> Triple:
    """The dilation, along the axes on which the window has any length."""
    z, y, x = (dilation if k > 1 else 1 for k in window)
    return (z, y, x)


def input_size(output: Triple, window: Triple, dilation: Triple) -> Triple:
    z, y, x = (n + (k - 1) * s for n, k, s in zip(output, window, dilation, strict=True))
    return (z, y, x)


def convolution(
    algorithm: Algorithm, channels: int, kernel: Triple, output: Triple, dilation: Triple
) -> tuple[Steps, Triple | None]:
    """The steps of a convolution, and its tile."""
    tile = None
    if algorithm == "tiled":
        tile = default_tile(output, kernel, dilation, (channels, channels))
    size, inputs = input_size(output, kernel, dilation), slice(0, channels)
    conv = make_convolution(algorithm, size, kernel, dilation, (channels, channels), tile=tile)
    x, g, w = (
        random(*size, channels),
        random(*output, channels),
        random(*kernel, channels, channels),
    )
    X, G, W, every = x, g, w, whole(output)
    if conv.transforms:
        X, G = conv.allocate_input_spectrum(), conv.allocate_gradient_spectrum()
        W = conv.allocate_kernel_spectrum()
        conv.input_spectrum(x, every, X)
        conv.gradient_spectrum(g, every, G)
        conv.kernel_spectrum(w, inputs, W)

    def forward() -> None:
        if conv.transforms:
            conv.input_spectrum(x, every, X)
        conv.output(conv.forward(X, W, every), every)

    def input_gradient() -> None:
        if conv.transforms:
            conv.gradient_spectrum(g, every, G)
        conv.input_gradient(G, W, every)

    def kernel_gradient() -> None:
        conv.kernel_gradient(X, G, inputs)

    return dict(zip(STEPS, (forward, input_gradient, kernel_gradient), strict=True)), tile


def max_filter(channels: int, window: Triple, output: Triple, dilation: Triple) -> Steps:
    kernel = MaxFilter(window, dilation)
    x, g = random(*input_size(output, window, dilation), channels), random(*output, channels)
    _, residue = kernel.forward(x)
    steps = (lambda: kernel.forward(x), lambda: kernel.backward(g, residue, x.shape))
    return dict(zip(STEPS[:2], steps, strict=True))


def together(parts: Sequence[Steps]) -> Steps:
    """The same step of all of them, one after the other."""

    def each(name: str) -> Callable[[], object]:
        return lambda: [part[name]() for part in parts]

    return {name: each(name) for name in parts[0]}


def measure(ways: Sequence[Steps]) -> list[dict[str, float]]:
    """Least seconds of every step of every way."""
    least: list[dict[str, float]] = [dict.fromkeys(way, float("inf")) for way in ways]
    for measured in (False, *[True] * ROUNDS):
        for way, best in zip(ways, least, strict=True):
            for name, step in way.items():
                start = time.thread_time()
                step()
                if measured:
                    best[name] = min(best[name], time.thread_time() - start)
    return least


def layer(algorithm: Algorithm | None, channels: int, window: Triple, output: Triple) -> list:
    """A row for each dilation; algorithm None is a max-filter."""
    ways: list[Steps] = []
    tiles: list[Triple | None] = []
    for factor in DILATIONS:
        dilation = spread(window, factor)
        if algorithm is None:
            ways.append(max_filter(channels, window, output, dilation))
            tiles.append(None)
        else:
            steps, tile = convolution(algorithm, channels, window, output, dilation)
            ways.append(steps)
            tiles.append(tile)
    fragments = {}
    for factor in DILATIONS[1:]:
        dilation = spread(window, factor)
        z, y, x = (n // s for n, s in zip(output, dilation, strict=True))
        if algorithm == "direct" and z * y * x >= LEAST_FRAGMENT:
            fragments[factor] = len(ways)
            ways.append(
                together(
                    [
                        convolution("direct", channels, window, (z, y, x), (1, 1, 1))[0]
                        for _ in range(math.prod(dilation))
                    ]
                )
            )
    seconds = measure(ways)
    voxels = float(np.prod(output)) * 1e-9
    rows = []
    for i, factor in enumerate(DILATIONS):
        cells = []
        for name, taken in seconds[i].items():
            cell = f"{taken / voxels:.1f} ({taken / seconds[0][name]:.2f}"
            if factor in fragments:
                cell += f", {taken / seconds[fragments[factor]][name]:.2f}"
            cells.append(cell + ")")
        cells += [""] * (len(STEPS) - len(cells))
        shapes = ["x".join(map(str, shape)) for shape in (window, output)]
        edges = ",".join(map(str, tiles[i] or ()))
        rows.append([channels, *shapes, algorithm or "max-filter", factor, edges, *cells])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="words, all of which a row contains")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    words = [word for word in options.only.split(",") if word]
    algorithms: tuple[Algorithm, ...] = ("direct", "tiled")
    cases = [(algorithm, *shape) for shape in LAYERS for algorithm in algorithms]
    rows = []
    with threadpool_limits(1):
        for case in (*cases, *((None, *shape) for shape in FILTERS)):
            named = f"{case[0] or 'max-filter'} {'x'.join(map(str, case[2]))}"
            if all(word in named for word in words):
                rows += layer(*case)
                print(*rows[-len(DILATIONS) :], sep="\n", flush=True)
    text = table(HEADER, rows)
    print(text)
    if options.write:
        about = "\n\n".join(__doc__.split("\n\n")[2:])
        write_section("Dilated convolution", f"{about}\n{text}")


if __name__ == "__main__":
    main()
