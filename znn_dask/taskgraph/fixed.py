"""A source with one patch, for checking the arithmetic and measuring it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from znn_dask.kernels.geometry import Triple
from znn_dask.kernels.layout import map_from_znn
from znn_dask.network import Network, NodeGroup


@dataclass(frozen=True)
class FixedPatch:
    """Maps (z, y, x, c) keyed by node group."""

    inputs: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]
    weights: Mapping[str, np.ndarray | None] = field(default_factory=dict)


@dataclass(frozen=True)
class FixedSource:
    """The same patch for ever, so that loading it costs nothing."""

    always: FixedPatch

    def patch(self, index: int) -> FixedPatch:
        """The patch, whatever `index` is."""
        return self.always


def given_source(
    inputs: Mapping[str, np.ndarray], output_gradients: Mapping[str, np.ndarray], dtype: str
) -> FixedSource:
    """A patch whose "targets" are the gradients of the outputs; maps in ZNN's layout (c, z, y, x).

    For `TrainingSpec.loss` "given".
    """

    def maps(given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: map_from_znn(values, dtype) for name, values in given.items()}

    return FixedSource(FixedPatch(maps(inputs), maps(output_gradients)))


def noise_source(network: Network, output_size: Triple, seed: int = 0) -> FixedSource:
    """A patch of float32 Gaussian noise, of the sizes that the network needs."""
    rng = np.random.default_rng(seed)
    sizes = network.sizes(output_size)

    def maps(nodes: Iterable[NodeGroup]) -> dict[str, np.ndarray]:
        return {
            node.name: rng.standard_normal((*sizes[node.name], node.size), np.float32)
            for node in nodes
        }

    return FixedSource(FixedPatch(maps(network.inputs), maps(network.outputs)))
