"""Patches of random numbers: patch i is always the same, in every process."""

import math
from dataclasses import dataclass

import numpy as np

from znn_dask.network import Network
from znn_dask.taskgraph.fixed import FixedPatch


@dataclass(frozen=True)
class RandomPatches:
    """Inputs and output gradients for one output size."""

    network: Network
    output_size: tuple[int, int, int]
    dtype: str = "float32"

    def patch(self, index: int) -> FixedPatch:
        rng = np.random.default_rng(index)
        sizes = self.network.sizes(self.output_size)

        def draw(nodes: tuple) -> dict[str, np.ndarray]:
            shapes = {node.name: (*sizes[node.name], node.size) for node in nodes}
            return {n: rng.normal(size=shape).astype(self.dtype) for n, shape in shapes.items()}

        return FixedPatch(draw(self.network.inputs), draw(self.network.outputs))


def random_parameters(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    """Kernels of about unit gain and biases, float64, ZNN's layout."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=shape) / math.sqrt(math.prod(shape) / (shape[1:] or (1,))[0])
        for name, shape in network.parameter_shapes().items()
    }
