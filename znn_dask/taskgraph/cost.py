"""Estimated seconds and bytes of every typed task.

Counts of arithmetic and memory traffic (`kernels.costs`) times one factor for the machine, which a
short calibration measures.
"""

import functools
import math
import time

import numpy as np
from threadpoolctl import threadpool_limits

from znn_dask.kernels import costs, memory, storage
from znn_dask.kernels.convolution import make_convolution
from znn_dask.kernels.geometry import Box, box_shape, whole
from znn_dask.taskgraph.layers import Layers

_BYTES_PER_SECOND = 5e9  # numpy passing once over a map
_PASSES = {"transfer": 2, "sum": 1, "maxout": 3, "max_filter": 8, "max_pool": 6, "dropout": 4}


class TaskCost:
    """Costs of the typed tasks of `layers`.

    Parameters
    ----------
    layers
        What is computed.
    slowness
        Seconds here per second predicted for the reference core (`calibrate`).
    """

    def __init__(self, layers: Layers, slowness: float = 1.0) -> None:
        self._layers = layers
        self._slowness = slowness
        self._convolutions = {e: costs.cost(c) for e, c in layers.convolutions.items()}
        self._itemsize = np.dtype(layers.arithmetic.dtype).itemsize
        outputs = {node.name for node in layers.network.outputs}
        inputs = {node.name for node in layers.network.inputs}
        self.patch_bytes = sum(self.map_bytes(n, whole(layers.sizes[n])) for n in inputs | outputs)
        self.load = 4 * self.patch_bytes / _BYTES_PER_SECOND * slowness
        self.loss = (
            6
            * sum(self.map_bytes(n, whole(layers.sizes[n])) for n in outputs)
            / _BYTES_PER_SECOND
            * slowness
        )

    def map_bytes(self, node: str, block: Box) -> int:
        """Bytes of a block of a node group's map."""
        channels = self._layers.network.node(node).size
        return math.prod(box_shape(block)) * channels * self._itemsize

    def forward(self, node: str, block: Box) -> float:
        """Seconds of one block of the forward pass of a node group."""
        share = self._share(node, block)
        seconds = self._passes(node, block)
        for edge in self._layers.network.edges_into(node):
            if edge.name in self._convolutions:
                seconds += share * self._convolutions[edge.name].forward
        return seconds * self._slowness

    def backward(self, node: str, block: Box, *, prompt: bool = False) -> float:
        """Seconds of one block of the backward pass of a node group; where it is `prompt`, without
        the input gradients of convolutions."""
        share = self._share(node, block)
        seconds = self._passes(node, block)
        for edge in self._layers.network.edges_into(node):
            if edge.name in self._convolutions:
                cost = self._convolutions[edge.name]
                seconds += share * cost.gradient_spectrum
                if edge.input in self._layers.trained and not prompt:
                    seconds += share * cost.input_gradient
        return seconds * self._slowness

    def input_gradient(self, edge: str, block: Box) -> float:
        """Seconds of what a block of a conv edge group's output passes back to its input."""
        share = self._share(self._layers.network.edge(edge).output, block)
        return share * self._convolutions[edge].input_gradient * self._slowness

    def input_spectrum(self, edge: str, block: Box) -> float:
        """Seconds of making the part of an input spectrum that a block reads again."""
        share = self._share(self._layers.network.edge(edge).output, block)
        return share * self._convolutions[edge].input_spectrum * self._slowness

    def kernel_gradient(self, edge: str, channels: slice) -> float:
        """Seconds of the gradient of a block of input channels of a kernel."""
        return self._part(edge, channels) * self._convolutions[edge].kernel_gradient

    def kernel_spectrum(self, edge: str, channels: slice) -> float:
        """Seconds of the spectrum of a block of input channels of a kernel."""
        return self._part(edge, channels) * self._convolutions[edge].kernel_spectrum

    def kernel_spectrum_bytes(self, edge: str, channels: slice) -> int:
        """Bytes of a block of a kernel's spectrum."""
        nbytes = storage.kernel_spectrum_bytes(self._layers.convolutions[edge])
        return round(nbytes * self._share_of_channels(edge, channels))

    def update(self, edge: str, channels: slice) -> float:
        """Seconds of the update of a block of a kernel."""
        group = self._layers.network.edge(edge)
        size = math.prod(group.size) * math.prod(self._layers.channels(edge)) * self._itemsize
        part = self._part(edge, channels)
        return part * 8 * size / _BYTES_PER_SECOND

    def _passes(self, node: str, block: Box) -> float:
        kinds = [self._layers.network.node(node).type]
        kinds += [edge.type for edge in self._layers.network.edges_into(node)]
        passes = sum(_PASSES.get(kind, 1) for kind in kinds)
        return passes * self.map_bytes(node, block) / _BYTES_PER_SECOND

    def _share(self, node: str, block: Box) -> float:
        return math.prod(box_shape(block)) / math.prod(self._layers.sizes[node])

    def _share_of_channels(self, edge: str, channels: slice) -> float:
        return (channels.stop - channels.start) / self._layers.channels(edge)[0]

    def _part(self, edge: str, channels: slice) -> float:
        return self._share_of_channels(edge, channels) * self._slowness


@functools.cache
@threadpool_limits.wrap(limits=1)
def calibrate() -> float:
    """Seconds here per second of the reference core: one convolution, timed for a moment.

    Kept for the life of the process. It scales predictions only; no result depends on it.
    """
    convolution = make_convolution(
        "tiled", (20, 20, 20), (5, 5, 5), channels=(24, 24), tile=(12, 12, 12)
    )
    block = whole(convolution.output_size)
    x = memory.zeros((20, 20, 20, 24), "float32")
    w = memory.zeros((5, 5, 5, 24, 24), "float32")
    X, W, G = (
        convolution.allocate_input_spectrum(),
        convolution.allocate_kernel_spectrum(),
        convolution.allocate_gradient_spectrum(),
    )
    times = []
    for _ in range(5):
        start = time.perf_counter()
        convolution.kernel_spectrum(w, slice(0, 24), W)
        convolution.input_spectrum(x, block, X)
        y = convolution.output(convolution.forward(X, W, block), block)
        convolution.gradient_spectrum(y, block, G)
        convolution.input_gradient(G, W, block)
        convolution.kernel_gradient(X, G, slice(0, 24))
        times.append(time.perf_counter() - start)
    return sorted(times)[1] / costs.cost(convolution).update()
