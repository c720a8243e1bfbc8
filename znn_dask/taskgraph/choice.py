"""The default arithmetic: algorithms and tiles by the cost table, and cuts into blocks.

A deterministic function of shapes, the same on every machine.
"""

import math
from collections.abc import Mapping

from znn_dask.kernels import costs
from znn_dask.kernels.convolution import Algorithm
from znn_dask.kernels.geometry import Triple
from znn_dask.network import EdgeGroup, Network
from znn_dask.taskgraph.arithmetic import (
    ALGORITHMS,
    Arithmetic,
    ConvolutionArithmetic,
    PlanError,
)
from znn_dask.taskgraph.layers import bind_convolution, trained_nodes

# A block is one task: long enough that starting it costs nothing, short enough to share out.
_BLOCK_SECONDS = 1e-3
_MOST_BLOCKS = 8
_NARROWEST_CHANNELS = 8  # matrix products with fewer rows run at a fraction of the speed
_POOLING_PASSES = 8


def choose_arithmetic(
    network: Network,
    output_size: Triple,
    dtype: str = "float32",
    algorithm: str = "auto",
    *,
    training: bool = True,
) -> Arithmetic:
    """The default arithmetic: a function of its arguments alone.

    Parameters
    ----------
    output_size
        Output patch (z, y, x) in voxels.
    dtype
        "float32" or "float64".
    algorithm
        "auto": the fastest by the cost table; or one for all convolutions.
    training
        Choose for whole updates, or for the forward pass alone.

    Raises
    ------
    PlanError
        If `dtype` or `algorithm` is unknown.
    """
    if algorithm not in ALGORITHMS:
        raise PlanError(f"algorithm {algorithm!r} is unknown; use one of {', '.join(ALGORITHMS)}")
    if dtype not in ("float32", "float64"):
        raise PlanError(f"dtype {dtype!r} is unknown; use float32 or float64")
    sizes = network.sizes(output_size)
    choices = {
        edge.name: _choose(network, edge, sizes, algorithm, training) for edge in network.conv_edges
    }
    draft = Arithmetic(output_size, dtype, choices, {})
    cuts = {
        node.name: _cut(network, node.name, sizes, draft)
        for node in network.nodes
        if node.type != "input"
    }
    return Arithmetic(output_size, dtype, choices, cuts)


def _choose(
    network: Network,
    edge: EdgeGroup,
    sizes: Mapping[str, Triple],
    algorithm: str,
    training: bool,
) -> ConvolutionArithmetic:
    channels = (network.node(edge.input).size, network.node(edge.output).size)
    at = (sizes[edge.output], edge.size, network.dilation(edge.input), channels)
    onward = edge.input in trained_nodes(network)
    chosen: Algorithm
    tile: Triple | None = None
    if algorithm == "auto":
        chosen, tile = costs.choose_algorithm(*at, training=training, input_gradient=onward)
    elif algorithm == "direct" or edge.size == (1, 1, 1):
        chosen = "direct"
    elif algorithm == "fft":
        chosen = "fft"
    else:
        chosen = "tiled"
        tile = costs.default_tile(*at, training=training, input_gradient=onward)
    whole = ConvolutionArithmetic(chosen, tile, channels[0])
    draft = Arithmetic(sizes[edge.output], "float32", {edge.name: whole}, {})
    convolution = bind_convolution(network, sizes, edge, draft)
    cost = costs.cost(convolution)
    most = max(1, channels[0] // _NARROWEST_CHANNELS)
    blocks = _block_count(cost.kernel_gradient + cost.kernel_spectrum, most)
    return ConvolutionArithmetic(chosen, tile, -(-channels[0] // blocks))


def _cut(
    network: Network, node: str, sizes: Mapping[str, Triple], draft: Arithmetic
) -> tuple[int, int, int]:
    """(axis, step, count) of the blocks of a node group's map: whole tiles of its edges."""
    size = sizes[node]
    convolutions = [
        bind_convolution(network, sizes, edge, draft)
        for edge in network.edges_into(node)
        if edge.type == "conv"
    ]
    rows = {convolution.rows() for convolution in convolutions if convolution.transforms}
    axes = {axis for axis, _ in rows} or {next((a for a in range(3) if size[a] > 1), 0)}
    if len(axes) > 1:  # tiles run along different axes: no cut respects both
        return 0, size[0], 1
    (axis,) = axes
    step = math.lcm(*(step for _, step in rows))
    seconds = sum(costs.cost(convolution).forward for convolution in convolutions)
    if not convolutions:
        seconds = _POOLING_PASSES * math.prod(size) * network.node(node).size * 4 / 5e9
    return axis, step, _block_count(seconds, -(-size[axis] // step))


def _block_count(seconds: float, most: int) -> int:
    return max(1, min(most, _MOST_BLOCKS, int(seconds / _BLOCK_SECONDS)))
