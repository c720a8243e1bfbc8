"""The forward pass of a network over whole maps by the textbook, one loop per kernel voxel."""

import importlib
import itertools
import threading
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from znn_dask.network import EdgeGroup, Network
from znn_dask.taskgraph import ForwardPass

# The module: in the package, its name is that of the function.
prediction = importlib.import_module("znn_dask.inference.predict")

Maps = dict[str, np.ndarray]


def forward(network: Network, parameters: Mapping[str, np.ndarray], inputs: Maps) -> Maps:
    """Output maps (z,y,x,c) of input maps (z,y,x,c)."""
    maps = dict(inputs)
    for node in network.topological:
        edges = network.edges_into(node.name)
        if not edges:
            continue
        total = sum(_edge(network, edge, parameters, maps[edge.input]) for edge in edges)
        bias = parameters.get(f"{node.name}.biases", np.zeros(1))
        maps[node.name] = FUNCTIONS[node.function](total + bias.astype(total.dtype))
    return {node.name: maps[node.name] for node in network.outputs}


def _edge(
    network: Network, edge: EdgeGroup, parameters: Mapping[str, np.ndarray], x: np.ndarray
) -> np.ndarray:
    if edge.type == "crop":
        return x[tuple(slice(o, n - o) for o, n in zip(edge.offset, x.shape, strict=False))]
    dilation = network.dilation(edge.input)
    size = [n - (k - 1) * d for n, k, d in zip(x.shape[:3], edge.size, dilation, strict=True)]
    taps = itertools.product(*(range(k) for k in edge.size))
    windows = [
        (
            tap,
            x[tuple(slice(t * d, t * d + n) for t, d, n in zip(tap, dilation, size, strict=True))],
        )
        for tap in taps
    ]
    if edge.type == "max_filter":
        return np.maximum.reduce([window for _, window in windows])
    filters = parameters[f"{edge.name}.filters"].astype(x.dtype)[:, :, ::-1, ::-1, ::-1]
    return sum(window @ filters[:, :, *tap] for tap, window in windows)


FUNCTIONS = {
    "linear": lambda x: x,
    "rectify_linear": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "logistics": lambda x: 1 / (1 + np.exp(-x)),
    "forward_logistics": lambda x: 1 / (1 + np.exp(-x)),
}


class Wrapped:
    """A ForwardPass that tests can watch or break: subclasses say what happens around it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.inner = ForwardPass(*args, **kwargs)

    def before(self) -> None: ...

    def after(self) -> None: ...

    def __call__(self, inputs: Maps, *where: Any) -> Maps:
        self.before()
        outputs = self.inner(inputs, *where)
        self.after()
        return outputs


class Watched(Wrapped):
    """Counts calls, threads, and how many run at a time, in this process."""

    lock = threading.Lock()
    threads: ClassVar[set[int]] = set()
    calls = running = peak = 0

    @classmethod
    def reset(cls) -> None:
        cls.calls = cls.running = cls.peak = 0
        cls.threads.clear()

    def before(self) -> None:
        with Watched.lock:
            Watched.calls += 1
            Watched.running += 1
            Watched.peak = max(Watched.peak, Watched.running)
            Watched.threads.add(threading.get_ident())
        time.sleep(0.02)

    def after(self) -> None:
        with Watched.lock:
            Watched.running -= 1
