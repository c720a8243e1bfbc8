"""The default arithmetic: algorithms and tiles by the cost table, and cuts into blocks.

A deterministic function of shapes, the same on every machine.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from znn_dask.kernels import costs
from znn_dask.kernels.convolution import Algorithm, make_convolution
from znn_dask.kernels.fragments import FragmentFilter
from znn_dask.kernels.geometry import Triple, box_shape, dilated_input, whole
from znn_dask.network import EdgeGroup, Network
from znn_dask.network.fragments import ComputedMaps
from znn_dask.taskgraph.arithmetic import (
    ALGORITHMS,
    Arithmetic,
    ConvolutionArithmetic,
    PlanError,
)
from znn_dask.taskgraph.cost import TaskCost
from znn_dask.taskgraph.layers import Layers, bind_convolution, compile_layers, trained_nodes

# A block is one task: long enough that starting it costs nothing, short enough to share out.
_BLOCK_SECONDS = 1e-3
_MOST_BLOCKS = 8
_FRAGMENTS_PAY = 0.85  # share of the multiplications that are left where fragments are worth it
_AS_GOOD = 0.01  # what the cost table may err by when two tiles are compared
_NARROWEST_CHANNELS = 8  # matrix products with fewer rows run at a fraction of the speed


def choose_arithmetic(
    network: Network,
    output_size: Triple,
    dtype: str = "float32",
    algorithm: str = "auto",
    *,
    training: bool = True,
    fragments: bool | None = None,
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
    fragments
        Whether maps are computed only where the output patch reads them; by `fragments_pay` when
        not given.

    Raises
    ------
    PlanError
        If `dtype` or `algorithm` is unknown.
    """
    if algorithm not in ALGORITHMS:
        raise PlanError(f"algorithm {algorithm!r} is unknown; use one of {', '.join(ALGORITHMS)}")
    if dtype not in ("float32", "float64"):
        raise PlanError(f"dtype {dtype!r} is unknown; use float32 or float64")
    if fragments is None:
        fragments = fragments_pay(network, output_size)
    draft = Arithmetic(output_size, dtype, {}, {}, fragments)
    maps = draft.maps(network)
    choices = {
        edge.name: _choose(network, edge, maps, algorithm, training) for edge in network.conv_edges
    }
    draft = replace(draft, convolutions=choices)
    return replace(draft, cuts=_cuts(network, draft))


def fragments_pay(network: Network, output_size: Triple) -> bool:
    """Whether maps are to be computed only where the output patch reads them: if that saves more of
    the convolutions than the max-filters between them may lose."""
    every = multiplications(network, output_size, fragments=False)
    return multiplications(network, output_size, fragments=True) <= _FRAGMENTS_PAY * every


def multiplications(network: Network, output_size: Triple, *, fragments: bool) -> int:
    """Of a number by a number, in the convolutions of a forward pass computed directly."""
    sizes = Arithmetic(output_size, "float32", {}, {}, fragments).maps(network).sizes
    return sum(
        math.prod(sizes[edge.output] + edge.size)
        * network.node(edge.input).size
        * network.node(edge.output).size
        for edge in network.conv_edges
    )


def _choose(
    network: Network,
    edge: EdgeGroup,
    maps: ComputedMaps,
    algorithm: str,
    training: bool,
) -> ConvolutionArithmetic:
    channels = (network.node(edge.input).size, network.node(edge.output).size)
    at = (maps.sizes[edge.output], edge.size, maps.dilations[edge.input], channels)
    onward = edge.input in trained_nodes(network)
    chosen: Algorithm
    tile: Triple | None = None
    if algorithm == "auto":
        chosen, tile = costs.choose_algorithm(*at, training=training, input_gradient=onward)
        if chosen == "tiled":
            tile = _shared_tile(at, onward, training)
    elif algorithm == "direct" or edge.size == (1, 1, 1):
        chosen = "direct"
    elif algorithm == "fft":
        chosen = "fft"
    else:
        chosen = "tiled"
        tile = _shared_tile(at, onward, training)
    whole = ConvolutionArithmetic(chosen, tile, channels[0])
    draft = Arithmetic(maps.sizes[edge.output], "float32", {edge.name: whole}, {})
    convolution = bind_convolution(network, maps, edge, draft)
    cost = costs.cost(convolution)
    most = max(1, channels[0] // _NARROWEST_CHANNELS)
    blocks = _block_count(cost.kernel_gradient + cost.kernel_spectrum, most)
    return ConvolutionArithmetic(chosen, tile, -(-channels[0] // blocks))


def _shared_tile(
    at: tuple[Triple, Triple, Triple, tuple[int, int]], onward: bool, training: bool
) -> Triple:
    """The fastest tile for two threads, which share forward and backward pass by rows of tiles.

    A tile may be the fastest on one core and leave a single row, on which one thread works while
    the other waits. Among tiles as good as equal, the one with most rows.
    """
    judged = []
    for tile in costs.tile_candidates(*at[:3]):
        convolution = make_convolution("tiled", _input_size(*at[:3]), *at[1:], tile=tile)
        axis, step = convolution.rows()
        rows = min(_MOST_BLOCKS, -(-convolution.output_size[axis] // step))
        cost = costs.cost(convolution)
        # Work on kernels is cut by channels, whatever the tile; a forward pass has none.
        kernels = cost.kernel_gradient + cost.kernel_spectrum if training else 0.0
        passes = cost.update(onward) - kernels if training else cost.forward
        seconds = passes / min(rows, 2) + kernels / 2
        judged.append((seconds, rows, tile))
    least = min(seconds for seconds, _, _ in judged)
    good = (each for each in judged if each[0] <= least * (1 + _AS_GOOD))
    return min(good, key=lambda each: (-each[1], each[0], each[2]))[2]


def _input_size(output_size: Triple, kernel: Triple, dilation: Triple) -> Triple:
    return box_shape(dilated_input(whole(output_size), kernel, dilation))


def _cuts(network: Network, draft: Arithmetic) -> dict[str, tuple[int, int, int]]:
    """(axis, step, count) of the blocks of every map, chosen by the seconds of its forward pass."""
    sizes = draft.maps(network).sizes
    nodes = [node.name for node in network.topological if node.type != "input"]
    uncut = {node: (0, sizes[node][0], 1) for node in nodes}
    layers = compile_layers(network, replace(draft, cuts=uncut))
    cost = TaskCost(layers)
    cuts: dict[str, tuple[int, int, int]] = {}
    for node in nodes:
        axis, step = _rows(layers, node, cuts)
        seconds = cost.forward(node, whole(sizes[node]))
        cuts[node] = axis, step, _block_count(seconds, -(-sizes[node][axis] // step))
    return cuts


def _rows(layers: Layers, node: str, cuts: Mapping[str, tuple[int, int, int]]) -> tuple[int, int]:
    """(axis, step) along which a map may be cut: at whole tiles of the convolutions into it.

    Where they leave the choice, it follows the map in front, so that blocks need few blocks.
    """
    size = layers.sizes[node]
    edges = layers.network.edges_into(node)
    rows = {
        layers.convolutions[edge.name].rows()
        for edge in edges
        if edge.name in layers.convolutions and layers.transformed(edge.name)
    }
    if not rows:
        before = [cuts[e.input][0] for e in edges if e.input in cuts and cuts[e.input][2] > 1]
        axis = next((a for a in (*before, 0, 1, 2) if size[a] > 1), 0)
        return axis, _fragments(layers, node, axis)
    axes = {axis for axis, _ in rows}
    if len(axes) > 1:  # tiles run along different axes: no cut respects both
        return 0, size[0]
    axis = axes.pop()
    return axis, math.lcm(_fragments(layers, node, axis), *(step for _, step in rows))


def _fragments(layers: Layers, node: str, axis: int) -> int:
    """Fragments that max-filters into a map compute side by side along `axis`."""
    kernels = (layers.kernels.get(edge.name) for edge in layers.network.edges_into(node))
    return math.lcm(*(k.fragments[axis] for k in kernels if isinstance(k, FragmentFilter)))


def _block_count(seconds: float, most: int) -> int:
    return max(1, min(most, _MOST_BLOCKS, int(seconds / _BLOCK_SECONDS)))
