"""Milliseconds of every step of a convolution on one core, for each algorithm.

    OPENBLAS_NUM_THREADS=1 python benchmarks/convolution_steps.py [--layers 0,3] [--tile 12,12,12]

Each figure is the least CPU time of the rounds; the last two columns are the sum and what the cost
table predicts for it.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from znn_dask.kernels.convolution import Convolution, make_convolution
from znn_dask.kernels.costs import choose_algorithm, cost, default_tile
from znn_dask.kernels.geometry import Triple, blocks
from znn_dask.kernels.memory import empty

Layer = tuple[tuple[int, int], Triple, Triple, Triple]  # channels, kernel, dilation, output

LAYERS: tuple[Layer, ...] = (
    ((40, 40), (5, 5, 5), (1, 1, 1), (32, 32, 32)),
    ((40, 40), (5, 5, 5), (1, 1, 1), (16, 16, 16)),
    ((16, 16), (5, 5, 5), (1, 1, 1), (16, 16, 16)),
    ((16, 16), (5, 5, 5), (1, 1, 1), (48, 48, 48)),
    ((80, 80), (5, 5, 5), (1, 1, 1), (24, 24, 24)),
    ((40, 40), (7, 7, 7), (1, 1, 1), (32, 32, 32)),
    ((24, 24), (9, 9, 9), (1, 1, 1), (32, 32, 32)),
    ((40, 40), (3, 3, 3), (1, 1, 1), (48, 48, 48)),
    ((16, 16), (3, 3, 3), (1, 1, 1), (48, 48, 48)),
    ((40, 40), (5, 5, 5), (2, 2, 2), (28, 28, 28)),
    ((40, 40), (5, 5, 5), (4, 4, 4), (20, 20, 20)),
    ((1, 40), (5, 5, 5), (1, 1, 1), (59, 59, 59)),
    ((48, 48), (1, 4, 4), (1, 8, 8), (1, 100, 100)),
    ((48, 200), (1, 1, 1), (1, 1, 1), (1, 100, 100)),
)
STEPS = ("x fft", "w fft", "product", "output", "g fft", "dx", "dw")


def milliseconds(step: Callable[[], object], rounds: int) -> float:
    step()
    taken = []
    for _ in range(rounds):
        start = time.thread_time()
        step()
        taken.append(time.thread_time() - start)
    return min(taken) * 1e3


def measure(conv: Convolution, rounds: int, cuts: int) -> list[float]:
    """Milliseconds of STEPS over the whole map, the output cut into `cuts` blocks."""
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        array = empty(shape, conv.dtype)
        array[...] = rng.standard_normal(shape)
        return array

    x = random(*conv.input_size, conv.channels[0])
    w = random(*conv.kernel, *conv.channels)
    g = random(*conv.output_size, conv.channels[1])
    parts = blocks(conv.output_size, *conv.rows(), cuts)
    channels = slice(0, conv.channels[0])
    X, W, G = x, w, g
    times = dict.fromkeys(STEPS, 0.0)
    if conv.transforms:
        X = conv.allocate_input_spectrum()
        W = conv.allocate_kernel_spectrum()
        G = conv.allocate_gradient_spectrum()
        times["x fft"] = milliseconds(lambda: [conv.input_spectrum(x, b, X) for b in parts], rounds)
        times["w fft"] = milliseconds(lambda: conv.kernel_spectrum(w, channels, W), rounds)
        times["g fft"] = milliseconds(
            lambda: [conv.gradient_spectrum(g[b], b, G) for b in parts], rounds
        )
    times["product"] = milliseconds(lambda: [conv.forward(X, W, b).shape for b in parts], rounds)
    products = [conv.forward(X, W, b) for b in parts]
    if conv.transforms:
        times["output"] = milliseconds(
            lambda: [conv.output(p, b).shape for p, b in zip(products, parts, strict=True)],
            rounds,
        )
    times["dx"] = milliseconds(lambda: [conv.input_gradient(G, W, b).shape for b in parts], rounds)
    times["dw"] = milliseconds(lambda: conv.kernel_gradient(X, G, channels), rounds)
    return list(times.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", default=",".join(str(i) for i in range(len(LAYERS))))
    parser.add_argument("--tile", help="edges z,y,x in place of the default tile")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--algorithms", default="direct,fft,tiled")
    options = parser.parse_args()
    print(f"{'layer':>36} {'algorithm':>22}", *(f"{s:>8}" for s in (*STEPS, "sum", "predicted")))
    for index in options.layers.split(","):
        channels, kernel, dilation, output = LAYERS[int(index)]
        a, b, c = (n + (k - 1) * s for n, k, s in zip(output, kernel, dilation, strict=True))
        tile = default_tile(output, kernel, dilation, channels)
        if options.tile:
            z, y, x = (int(t) for t in options.tile.split(","))
            tile = (z, y, x)
        chosen = choose_algorithm(output, kernel, dilation, channels)[0]
        for algorithm in options.algorithms.split(","):
            conv = make_convolution(algorithm, (a, b, c), kernel, dilation, channels, tile=tile)
            if algorithm != "direct" and not conv.transforms:
                continue
            times = measure(conv, options.rounds, options.blocks)
            layer = f"{channels} {kernel} {dilation} {output}".replace(", ", ",")
            name = algorithm + ("*" if algorithm == chosen else "")
            if conv.transforms:
                name += " {}".format(",".join(str(t) for t in conv.tile))  # type: ignore[attr-defined]
            figures = (*times, sum(times), cost(conv).update() * 1e3)
            print(f"{layer:>36} {name:>22}", *(f"{t:8.1f}" for t in figures), flush=True)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
