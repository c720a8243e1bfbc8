"""A network compiled for one arithmetic: kernels with their sizes, and the blocks of every map."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from znn_dask.kernels.convolution import Convolution, make_convolution
from znn_dask.kernels.fragments import FragmentFilter
from znn_dask.kernels.geometry import Box, Triple, blocks, whole
from znn_dask.kernels.pooling import Crop, Dropout, EdgeKernel, Identity, MaxFilter, MaxPool
from znn_dask.kernels.transfer import TransferFunction, transfer
from znn_dask.network import EdgeGroup, Network
from znn_dask.network.fragments import ComputedMaps, computed_maps
from znn_dask.taskgraph.arithmetic import Arithmetic


@dataclass(frozen=True)
class Layers:
    """The layers of a network at fixed sizes: immutable, shared by all threads of a process.

    Attributes
    ----------
    network, arithmetic
        What it was compiled from.
    sizes
        Node group -> size (z, y, x) of its map as it is computed.
    convolutions
        Conv edge group -> its convolution.
    kernels
        Every other edge group -> its kernel.
    transfers
        Transfer node group -> its function.
    blocks
        Node group -> the boxes in which its map is computed.
    channel_blocks
        Conv edge group -> slices of input channels in which its kernel is updated.
    spectrum_owners
        Conv edge group -> the first edge group into the same node group whose gradient spectrum
        is the same.
    trained
        Node groups through which the backward pass goes.
    """

    network: Network
    arithmetic: Arithmetic
    sizes: Mapping[str, Triple]
    convolutions: Mapping[str, Convolution]
    kernels: Mapping[str, EdgeKernel]
    transfers: Mapping[str, TransferFunction]
    blocks: Mapping[str, tuple[Box, ...]]
    channel_blocks: Mapping[str, tuple[slice, ...]]
    spectrum_owners: Mapping[str, str]
    trained: frozenset[str]

    def input_box(self, edge: str, block: Box) -> Box:
        """The part of the edge's input map that `block` of its output map reads."""
        if edge in self.convolutions:
            return self.convolutions[edge].input_box(block)
        source = self.network.edge(edge).input
        return self.kernels[edge].input_box(block, self.sizes[source])

    def transformed(self, edge: str) -> bool:
        """True if the edge's kernel is used as a spectrum (False: as it is)."""
        return self.convolutions[edge].transforms

    def has_bias(self, node: str) -> bool:
        """True for transfer node groups."""
        return node in self.transfers

    def channels(self, edge: str) -> tuple[int, int]:
        """Channels (in, out) of an edge group."""
        group = self.network.edge(edge)
        return self.network.node(group.input).size, self.network.node(group.output).size


def compile_layers(network: Network, arithmetic: Arithmetic) -> Layers:
    """Bind a network to an arithmetic."""
    maps = computed_maps(network, arithmetic.output_size, arithmetic.fragments)
    sizes = maps.sizes
    convolutions = {
        edge.name: _bind_convolution(network, maps, edge, arithmetic)
        for edge in network.edges
        if edge.type == "conv"
    }
    inputs = {node.name for node in network.inputs}
    node_blocks = {
        name: (whole(size),) if name in inputs else blocks(size, *arithmetic.cuts[name])
        for name, size in sizes.items()
    }
    return Layers(
        network,
        arithmetic,
        sizes,
        convolutions,
        {e.name: _edge_kernel(maps, e) for e in network.edges if e.type != "conv"},
        {n.name: transfer(n.function, n.arguments) for n in network.nodes if n.type == "transfer"},
        node_blocks,
        {
            edge: channel_slices(network.node(network.edge(edge).input).size, choice.channels)
            for edge, choice in arithmetic.convolutions.items()
        },
        _spectrum_owners(network, convolutions),
        trained_nodes(network),
    )


def _bind_convolution(
    network: Network, maps: ComputedMaps, edge: EdgeGroup, arithmetic: Arithmetic
) -> Convolution:
    """The convolution of a conv edge group between the maps that it joins."""
    choice = arithmetic.convolutions[edge.name]
    return make_convolution(
        choice.algorithm,
        maps.sizes[edge.input],
        edge.size,
        maps.dilations[edge.input],
        (network.node(edge.input).size, network.node(edge.output).size),
        arithmetic.dtype,
        tile=choice.tile,
    )


def channel_slices(channels: int, width: int) -> tuple[slice, ...]:
    """`range(channels)` in slices of `width` (the last may be narrower)."""
    return tuple(slice(c, min(c + width, channels)) for c in range(0, channels, width))


def trained_nodes(network: Network) -> frozenset[str]:
    """Node groups with parameters at or before them: gradients flow through these only."""
    trained: set[str] = set()
    for node in network.topological:
        edges = network.edges_into(node.name)
        if edges and (
            node.type == "transfer"
            or any(edge.type == "conv" or edge.input in trained for edge in edges)
        ):
            trained.add(node.name)
    return frozenset(trained)


def _spectrum_owners(network: Network, convolutions: Mapping[str, Convolution]) -> dict[str, str]:
    """Conv edge group -> the first one into its node group that has an equal signature."""
    first: dict[tuple[str, Hashable], str] = {}
    return {
        edge.name: first.setdefault((edge.output, convolutions[edge.name].signature), edge.name)
        for edge in network.conv_edges
    }


def _edge_kernel(maps: ComputedMaps, edge: EdgeGroup) -> EdgeKernel:
    if edge.type == "max_filter":
        stride, fragments = maps.windows(edge)
        windows = MaxFilter(edge.size, maps.dilations[edge.input], stride)
        return windows if fragments == (1, 1, 1) else FragmentFilter(windows, fragments)
    if edge.type == "max_pool":
        return MaxPool(edge.size)
    if edge.type == "dropout":
        return Dropout(edge.ratio)
    if edge.type == "crop":
        return Crop(edge.offset)
    return Identity()  # dummy; a maxout edge only names what its node group compares
