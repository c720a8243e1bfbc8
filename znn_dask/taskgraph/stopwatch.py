"""Seconds of a convolution by several methods, in rounds: what an update does with it, on one core.

CPU time of the thread, which what else the machine does disturbs less than time on the clock.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from znn_dask.kernels import costs, memory
from znn_dask.kernels.denormals import denormals_flushed
from znn_dask.kernels.geometry import blocks
from znn_dask.taskgraph.arithmetic import Method
from znn_dask.taskgraph.choice import ConvLayer
from znn_dask.taskgraph.timings import Round

Rounds = tuple[Round, ...]

_ROUNDS = 15
_LOOK = 3  # rounds after which methods that are far from the fastest are out
_FAR = 1.6  # times the fastest
_SHORTEST = 2e-3  # seconds of a method in a round, repeated if it takes less


@denormals_flushed()
@threadpool_limits.wrap(limits=1)
def measure(layer: ConvLayer, methods: Sequence[Method], seconds: float) -> dict[Method, Rounds]:
    """Method -> its rounds, in the order of `methods`.

    The first method is in all rounds; others are left out after a look if they are far from the
    fastest, and then have fewer. Takes about `seconds` at most: methods that there is no time for
    are missing, and there may be fewer rounds than are asked for.
    """
    begun = time.perf_counter()
    maps = _Maps(layer)
    runs: dict[Method, Callable[[], Round]] = {}
    for method in methods:
        if runs and time.perf_counter() - begun > seconds / 2:
            break
        runs[method] = maps.runner(method)
        runs[method]()  # compiles, fills the pool of memory
    rounds: dict[Method, list[Round]] = {method: [] for method in runs}
    going = list(runs)
    for number in range(_ROUNDS):
        if time.perf_counter() - begun > seconds:
            break
        if number == _LOOK:
            typical = {method: _typical(layer, method, rounds[method]) for method in going}
            bound = _FAR * min(typical.values())
            going = [m for m in going if m == methods[0] or typical[m] <= bound]
        for method in going if number % 2 else reversed(going):
            rounds[method].append(_sample(runs[method]))
    return {method: tuple(taken) for method, taken in rounds.items() if taken}


def _typical(layer: ConvLayer, method: Method, rounds: Sequence[Round]) -> float:
    convolution = layer.bind(method)
    return statistics.median(costs.on_two_threads(convolution, *taken) for taken in rounds)


def _sample(run: Callable[[], Round]) -> Round:
    """Mean of as many runs as it takes to be long enough for the clock."""
    taken = [run()]
    while sum(map(sum, taken)) < _SHORTEST:
        taken.append(run())
    passes, kernels = (statistics.fmean(values) for values in zip(*taken, strict=True))
    return Round(passes, kernels)


class _Maps:
    """Input, kernel and output gradient of a layer, of noise."""

    def __init__(self, layer: ConvLayer) -> None:
        rng = np.random.default_rng(0)
        shape = layer.shape
        self._layer = layer

        def noise(*size: int) -> np.ndarray:
            array = memory.empty(size, shape.dtype)
            array[...] = rng.standard_normal(size)
            return array

        self._x = noise(*shape.input_size, shape.channels[0])
        self._w = noise(*shape.kernel, *shape.channels)
        self._g = noise(*shape.output_size, shape.channels[1])

    def runner(self, method: Method) -> Callable[[], Round]:
        """A function that does once what an update does with the convolution.

        Two blocks where there are rows for them, as two threads would share it.
        """
        conv, x, w = self._layer.bind(method), self._x, self._w
        onward, training = self._layer.onward, self._layer.training
        parts = blocks(conv.output_size, *conv.rows(), min(2, costs.block_rows(conv)))
        gradients = [memory.aligned_copy(self._g[part]) for part in parts]
        channels = slice(0, conv.channels[0])
        clock = time.thread_time

        def kernel_spectrum() -> np.ndarray:
            if not conv.transforms:
                return w
            W = conv.allocate_kernel_spectrum()
            conv.kernel_spectrum(w, channels, W)
            return W

        def forward(W: np.ndarray) -> np.ndarray:
            X = x if not conv.transforms else conv.allocate_input_spectrum()
            for part in parts:
                if conv.transforms:
                    conv.input_spectrum(x, part, X)
                conv.output(conv.forward(X, W, part), part)
            return X

        def backward(W: np.ndarray) -> np.ndarray:
            G = conv.allocate_gradient_spectrum()
            for part, g in zip(parts, gradients, strict=True):
                conv.gradient_spectrum(g, part, G)
                if onward:
                    conv.input_gradient(G, W, part)
            return G

        def update() -> Round:
            start = clock()
            W = kernel_spectrum()
            ready = clock()
            X = forward(W)
            if not training:
                return Round(clock() - ready, 0.0)
            G = backward(W)
            passed = clock()
            conv.kernel_gradient(X, G, channels)
            return Round(passed - ready, clock() - passed + ready - start)

        return update
