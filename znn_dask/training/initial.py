"""The parameters that training begins with."""

import numpy as np

from znn_dask.kernels.initialise import initialise, initialise_biases, tie
from znn_dask.kernels.layout import kernels_to_znn
from znn_dask.kernels.randomness import generator
from znn_dask.network import Network
from znn_dask.taskgraph.state import Parameters


def initial_parameters(network: Network, seed: int = 0, dtype: str = "float32") -> Parameters:
    """Parameters drawn as the network's `init` keys say, in ZNN's layout.

    `"edge.filters"` (in, out, kz, ky, kx) and `"node.biases"` (n,). Every group draws from a
    generator of its own, a pure function of the seed and its name. Conv edge groups without an
    `init` take "msra" (He et al. 2015).
    """
    parameters: Parameters = {}
    for edge in network.conv_edges:
        shape = (*edge.size, network.node(edge.input).size, network.node(edge.output).size)
        rng = generator("init", seed, "edge", edge.name)
        kernel = initialise(edge.init or "msra", edge.init_args, shape, rng, np.dtype(dtype))
        if edge.repeat != (1, 1, 1):
            kernel = tie(kernel, edge.repeat)
        parameters[f"{edge.name}.filters"] = kernels_to_znn(kernel)
    for node in network.nodes:
        if node.type == "transfer":
            rng = generator("init", seed, "node", node.name)
            parameters[f"{node.name}.biases"] = initialise_biases(
                node.init, node.init_args, node.size, rng, np.dtype(dtype)
            )
    return parameters
