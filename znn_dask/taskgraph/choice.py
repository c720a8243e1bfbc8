"""The default arithmetic: algorithms and tiles by the cost table, and cuts into blocks.

A deterministic function of shapes, the same on every machine.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from znn_dask.kernels import costs
from znn_dask.kernels.convolution import Convolution, make_convolution
from znn_dask.kernels.fragments import FragmentFilter
from znn_dask.kernels.geometry import Triple, whole
from znn_dask.kernels.shape import ConvolutionShape
from znn_dask.network import Network
from znn_dask.network.fragments import computed_maps
from znn_dask.taskgraph.arithmetic import (
    ALGORITHMS,
    Arithmetic,
    ConvolutionArithmetic,
    Method,
    PlanError,
)
from znn_dask.taskgraph.cost import TaskCost
from znn_dask.taskgraph.layers import Layers, compile_layers, trained_nodes

# A block is one task: long enough that starting it costs nothing, short enough to share out. Finer
# cuts repeat more work at their borders than a second thread saves.
_BLOCK_SECONDS = 1e-3
_FRAGMENTS_PAY = 0.85  # share of the multiplications that are left where fragments are worth it
_NARROWEST_CHANNELS = 8  # matrix products with fewer rows run at a fraction of the speed


def choose_arithmetic(
    network: Network,
    output_size: Triple,
    dtype: str = "float32",
    algorithm: str = "auto",
    *,
    training: bool = True,
    given: Mapping[str, Method] = MappingProxyType({}),
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
    given
        Conv edge groups whose method is not chosen but this one.
    fragments
        Whether maps are computed only where the output patch reads them; by `fragments_pay` when
        not given.

    Raises
    ------
    PlanError
        If `dtype` or `algorithm` is unknown, or if a given method does not fit its layer.
    """
    if algorithm not in ALGORITHMS:
        raise PlanError(f"algorithm {algorithm!r} is unknown; use one of {', '.join(ALGORITHMS)}")
    if dtype not in ("float32", "float64"):
        raise PlanError(f"dtype {dtype!r} is unknown; use float32 or float64")
    if fragments is None:
        fragments = fragments_pay(network, output_size)
    # Counted in float32, so that both precisions have the same tiles and blocks.
    layers = conv_layers(network, output_size, "float32", training=training, fragments=fragments)
    for name in given:
        if name not in layers:
            raise PlanError(f"there is no conv layer {name!r}; use one of: {', '.join(layers)}")
    choices = {}
    for name, layer in layers.items():
        method = given.get(name) or default_method(layer, algorithm)
        try:
            choices[name] = _with_blocks(layer, method)
        except ValueError as error:
            raise PlanError(f"{name} as {method}: {error}") from error
    draft = Arithmetic(output_size, dtype, choices, {}, fragments)
    return replace(draft, cuts=_cuts(network, draft))


def fragments_pay(network: Network, output_size: Triple) -> bool:
    """Whether maps are to be computed only where the output patch reads them: if that saves more of
    the convolutions than the max-filters between them may lose."""
    every = multiplications(network, output_size, fragments=False)
    return multiplications(network, output_size, fragments=True) <= _FRAGMENTS_PAY * every


def multiplications(network: Network, output_size: Triple, *, fragments: bool) -> int:
    """Of a number by a number, in the convolutions of a forward pass computed directly."""
    sizes = computed_maps(network, output_size, fragments).sizes
    return sum(
        math.prod(sizes[edge.output] + edge.size)
        * network.node(edge.input).size
        * network.node(edge.output).size
        for edge in network.conv_edges
    )


@dataclass(frozen=True)
class ConvLayer:
    """What decides which method is the fastest for a conv edge group; equal ones choose alike.

    Attributes
    ----------
    shape
        Sizes, dilation, channels and dtype.
    onward
        Whether a gradient passes on to its input.
    training
        Whether whole updates are computed, or forward passes alone.
    """

    shape: ConvolutionShape
    onward: bool
    training: bool

    def bind(self, method: Method) -> Convolution:
        """Its convolution by `method`; ValueError where the tile does not fit."""
        shape = self.shape
        at = (shape.input_size, shape.kernel, shape.dilation, shape.channels, shape.dtype)
        return make_convolution(method.algorithm, *at, tile=method.tile)

    def predicted(self, method: Method) -> float:
        """Counted seconds by `method` on two threads."""
        return costs.predicted(
            self.bind(method), training=self.training, input_gradient=self.onward
        )


def conv_layers(
    network: Network,
    output_size: Triple,
    dtype: str,
    *,
    training: bool,
    fragments: bool | None = None,
) -> dict[str, ConvLayer]:
    """The conv edge groups of a network by name, at an output patch; arguments as in
    `choose_arithmetic`."""
    if fragments is None:
        fragments = fragments_pay(network, output_size)
    maps, trained = computed_maps(network, output_size, fragments), trained_nodes(network)
    found = {}
    for edge in network.conv_edges:
        channels = (network.node(edge.input).size, network.node(edge.output).size)
        at = (maps.sizes[edge.output], edge.size, maps.dilations[edge.input], channels)
        onward = training and edge.input in trained
        found[edge.name] = ConvLayer(ConvolutionShape(*at, np.dtype(dtype)), onward, training)
    return found


def default_method(layer: ConvLayer, algorithm: str = "auto") -> Method:
    """The fastest method by the cost table, or the fastest by one `algorithm`."""
    shape = layer.shape
    if algorithm == "direct" or shape.kernel == (1, 1, 1):
        return Method("direct")
    if algorithm == "fft":
        return Method("fft")
    at = (shape.output_size, shape.kernel, shape.dilation, shape.channels)
    if algorithm == "auto":
        return Method(
            *costs.choose_algorithm(*at, training=layer.training, input_gradient=layer.onward)
        )
    tile = costs.default_tile(*at, training=layer.training, input_gradient=layer.onward)
    return Method("tiled", tile)


def _with_blocks(layer: ConvLayer, method: Method) -> ConvolutionArithmetic:
    cost = costs.cost(layer.bind(method))
    channels = layer.shape.channels[0]
    most = max(1, channels // _NARROWEST_CHANNELS)
    blocks = _block_count(cost.kernel_gradient + cost.kernel_spectrum, most)
    return ConvolutionArithmetic(*method, -(-channels // blocks))


def _cuts(network: Network, draft: Arithmetic) -> dict[str, tuple[int, int, int]]:
    """(axis, step, count) of the blocks of every map, chosen by the seconds of its forward pass."""
    sizes = computed_maps(network, draft.output_size, draft.fragments).sizes
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
    return max(1, min(most, costs.MOST_BLOCKS, int(seconds / _BLOCK_SECONDS)))
