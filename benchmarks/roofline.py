"""How long the arithmetic of a network must take: its operations at the peaks of this machine.

    OPENBLAS_NUM_THREADS=1 python benchmarks/roofline.py [--only words] [--threads 2]

Peaks: numpy's sgemm, and our own transforms of planes that stay in cache. Counted are the
convolutions alone, by the algorithms and tiles that were chosen: multiply-adds of direct ones,
products of spectra as three real ones for a complex one (Gauss), and transforms, each made once, of
lines that are not all zeros: 2.5 n log2 n operations for n real points, 5 n log2 n for complex
ones. Whatever moves data or passes over maps besides is not: a share of 100 % cannot be reached.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from networks import cases
from numpy.lib.stride_tricks import as_strided
from results import table
from threadpoolctl import threadpool_limits

from znn_dask.kernels import planes
from znn_dask.kernels.convolution import Convolution
from znn_dask.kernels.geometry import AxisTiles
from znn_dask.kernels.memory import empty, zeros
from znn_dask.kernels.tiled import Tiled
from znn_dask.kernels.whole_map import WholeMap
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.layers import Layers, compile_layers

_SECONDS = 0.25  # of measuring one peak
_MOMENT = 0.01  # seconds at least
_SGEMM_EDGES = (256, 512)
_TRANSFORM_EDGES = (8, 12, 16, 20)
_PLANES = 512  # in one call, all at the same place
_CHANNELS = 16


@dataclass(frozen=True)
class Peaks:
    """Operations per second of so many threads together."""

    threads: int
    sgemm: float
    transform: float


@dataclass(frozen=True)
class Work:
    """Floating-point operations of convolutions."""

    direct: float = 0.0
    products: float = 0.0
    transforms: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.direct + other.direct,
            self.products + other.products,
            self.transforms + other.transforms,
        )

    def seconds(self, peaks: Peaks) -> float:
        """At the peaks."""
        return (self.direct + self.products) / peaks.sgemm + self.transforms / peaks.transform


def work_of(layers: Layers, *, training: bool = True) -> Work:
    """Operations of an update, or of a forward pass with kernel spectra at hand."""
    total = Work()
    for edge in layers.network.conv_edges:
        total += convolution_work(
            layers.convolutions[edge.name],
            training=training,
            input_gradient=edge.input in layers.trained,
            # Edges into one node add up before the transform, and share the gradient's.
            output=layers.spectrum_owners[edge.name] == edge.name,
        )
    return total


def convolution_work(
    conv: Convolution, *, training: bool = True, input_gradient: bool = True, output: bool = True
) -> Work:
    """Operations of one convolution's update or forward pass; without `output` another one makes
    the transforms of the output and its gradient."""
    passes = 2 + input_gradient if training else 1
    C, K = conv.channels
    if not isinstance(conv, Tiled | WholeMap):
        taps = math.prod(conv.kernel)
        return Work(direct=passes * 2.0 * taps * math.prod(conv.output_size) * C * K)
    axes = [axis for axis in conv.grid.axes if axis.edge > 1]
    tiles = math.prod(axis.tiles * axis.phases for axis in conv.grid.axes)
    frequencies = math.prod(axis.edge for axis in axes[:-1]) * (axes[-1].edge // 2 + 1)
    inputs, outputs, kernels = (
        transform_operations([axis.edge for axis in axes], points)
        for points in (
            [axis.edge for axis in axes],
            [axis.outputs for axis in axes],
            [axis.kernel for axis in axes],
        )
    )
    transforms = tiles * (C * inputs + output * K * outputs)
    if training:
        transforms += tiles * (input_gradient * C * inputs + output * K * outputs)
        transforms += 2 * C * K * kernels
    return Work(products=passes * 6.0 * frequencies * tiles * C * K, transforms=transforms)


def transform_operations(edges: Sequence[int], points: Sequence[int]) -> float:
    """Operations of a real transform of `edges` points, of which `points` per axis are not zero
    (or, of an inverse one, wanted): line by line, the last axis first."""
    total, factor, frequencies = 0.0, 2.5, 1
    for axis in reversed(range(len(edges))):
        n = edges[axis]
        total += math.prod(points[:axis]) * frequencies * factor * n * math.log2(n)
        frequencies *= n if factor == 5 else n // 2 + 1
        factor = 5
    return total


def measure_peaks(threads: int) -> Peaks:
    """The peaks of so many threads at once; takes a second or two."""
    with threadpool_limits(1):
        sgemm = max(_rate(threads, partial(_sgemm, edge)) for edge in _SGEMM_EDGES)
        transform = max(_rate(threads, partial(_transform, edge)) for edge in _TRANSFORM_EDGES)
    return Peaks(threads, sgemm, transform)


Step = tuple[Callable[[], object], float]
"""What to run, and its operations."""


def _sgemm(edge: int) -> Step:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((edge, edge), np.float32) for _ in range(2))
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out), 2.0 * edge**3


def _transform(edge: int) -> Step:
    """The same plane many times over: it stays in cache."""
    axis = AxisTiles(1, edge, 1, edge)
    x = zeros((edge, edge, _CHANNELS), np.float32)
    half = empty((edge * (edge // 2 + 1), 1, 2, 1, _CHANNELS), np.float32)
    x = as_strided(x, (_PLANES, *x.shape), (0, *x.strides))
    half = as_strided(
        half, (half.shape[0], _PLANES, *half.shape[2:]), (half.strides[0], 0, *half.strides[2:])
    )
    points = ((0, edge), (0, edge))
    operations = _PLANES * _CHANNELS * transform_operations((edge, edge), (edge, edge))
    return lambda: planes.forward((axis, axis), x, half, points), operations


def _rate(threads: int, make: Callable[[], Step]) -> float:
    """Operations per second in the best of several moments, all threads at work in each."""
    steps = [make() for _ in range(threads)]

    def moment(step: Step, repeats: int) -> None:
        for _ in range(repeats):
            step[0]()

    with ThreadPoolExecutor(threads) as pool:
        repeats, least, end = 1, math.inf, time.perf_counter() + _SECONDS
        while time.perf_counter() < end:
            begin = time.perf_counter()
            list(pool.map(moment, steps, [repeats] * threads))
            taken = time.perf_counter() - begin
            if taken < _MOMENT:
                repeats *= 2
            least = min(least, taken / repeats)
    return threads * steps[0][1] / least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default="", help="words in the names of networks, with commas")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    one, several = measure_peaks(1), measure_peaks(options.threads)
    for peaks in (one, several):
        sgemm, transform = peaks.sgemm / 1e9, peaks.transform / 1e9
        print(f"{peaks.threads} thread(s): sgemm {sgemm:.0f}, transforms {transform:.0f} GFLOP/s")
    rows = []
    for case in cases(only=options.only):
        layers = compile_layers(case.network, choose_arithmetic(case.network, case.output_size))
        work = work_of(layers)
        operations = (work.direct, work.products, work.transforms)
        rows.append((case.name, *(f"{o / 1e9:.3g}" for o in operations)))
        rows[-1] += tuple(f"{work.seconds(peaks) * 1e3:.3g}" for peaks in (one, several))
    header = ("network", "direct, GFLOP", "products, GFLOP", "transforms, GFLOP", "ms, 1 thread")
    print(table((*header, f"ms, {options.threads} threads"), rows))


if __name__ == "__main__":
    main()
