"""The network: node groups, edge groups, and everything that follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index

from znn_dask.network import geometry
from znn_dask.network.builder import Builder
from znn_dask.network.geometry import show
from znn_dask.network.groups import ZERO, EdgeGroup, NetworkError, NodeGroup, Triple
from znn_dask.network.validation import validate

__all__ = ["EdgeGroup", "Network", "NetworkError", "NodeGroup", "Triple"]


@dataclass(frozen=True)
class Network(Builder):
    """A directed acyclic graph of node groups joined by edge groups.

    Immutable. It is validated when first asked about its shape, so that unfinished networks can be
    built and files read freely; then NetworkError says in one line what is wrong. All sizes are
    z, y, x in voxels. The methods that add groups are those of `Builder`.
    """

    def node(self, name: str) -> NodeGroup:
        """The node group called `name`; NetworkError when there is none."""
        return self._find(name)

    def edge(self, name: str) -> EdgeGroup:
        """The edge group called `name`; NetworkError when there is none."""
        for edge in self.edges:
            if edge.name == name:
                return edge
        known = ", ".join(edge.name for edge in self.edges) or "none"
        raise NetworkError(f"there is no edge group {name!r}; use one of: {known}")

    def edges_into(self, node_name: str) -> tuple[EdgeGroup, ...]:
        """Edge groups that enter a node group, in order of declaration."""
        return tuple(edge for edge in self.edges if edge.output == node_name)

    def edges_from(self, node_name: str) -> tuple[EdgeGroup, ...]:
        """Edge groups that leave a node group, in order of declaration."""
        return tuple(edge for edge in self.edges if edge.input == node_name)

    @property
    def inputs(self) -> tuple[NodeGroup, ...]:
        """Node groups of type input, in order of declaration."""
        return tuple(node for node in self.nodes if node.type == "input")

    @cached_property
    def outputs(self) -> tuple[NodeGroup, ...]:
        """Node groups that no edge group leaves, in order of declaration."""
        left = {edge.input for edge in self.edges}
        return tuple(node for node in self.nodes if node.name not in left)

    @property
    def conv_edges(self) -> tuple[EdgeGroup, ...]:
        """Edge groups of type conv, in order of declaration."""
        return tuple(edge for edge in self.edges if edge.type == "conv")

    def validate(self) -> None:
        """Raise NetworkError for the first thing that makes the network impossible."""
        if "_valid" not in self.__dict__:
            validate(self.nodes, self.edges)
            self.__dict__["_valid"] = True

    @cached_property
    def topological(self) -> tuple[NodeGroup, ...]:
        """Node groups such that every edge goes forward; ties keep the order of declaration."""
        self.validate()
        return geometry.topological_order(self.nodes, self.edges)

    @cached_property
    def _dilations(self) -> dict[str, Triple]:
        return geometry.dilations(self.topological, self.edges)

    def dilation(self, node_name: str) -> Triple:
        """Dilation of a node group's maps: the product of all strides before it.

        A window that leaves this group takes every dilation-th voxel.
        """
        return self._dilations[self.node(node_name).name]

    @cached_property
    def fields_of_view(self) -> dict[str, Triple]:
        """For each node group, how many of its voxels one output voxel depends on, per axis."""
        return geometry.fields_of_view(self.topological, self.edges, self._dilations)

    @property
    def field_of_view(self) -> Triple:
        """Input voxels that one output voxel depends on, per axis: the largest over the inputs.

        A crop needs a larger map but sees no further: for sizes use `input_sizes`.
        """
        seen = [self.fields_of_view[node.name] for node in self.inputs]
        return geometry.triple(map(max, zip(*seen, strict=True)))

    @cached_property
    def fields_of_view_so_far(self) -> dict[str, Triple]:
        """For each node group, how many input voxels one of its voxels depends on, per axis."""
        return geometry.fields_of_view_so_far(self.topological, self.edges, self._dilations)

    def sizes(self, output_size: Triple) -> dict[str, Triple]:
        """Size of every node group's maps when each output has `output_size`."""
        wanted = _size("output size", output_size)
        return geometry.sizes_backward(self.topological, self.edges, self._dilations, wanted)

    def input_sizes(self, output_size: Triple) -> dict[str, Triple]:
        """Size of each input map for outputs of `output_size`."""
        sizes = self.sizes(output_size)
        return {node.name: sizes[node.name] for node in self.inputs}

    def output_size(self, input_size: Triple | Mapping[str, Triple]) -> Triple:
        """Size of the outputs for inputs of `input_size` (one for all, or one per input name).

        Raises NetworkError where a map would be empty, a max_pool does not divide its map, or the
        inputs do not fit together; the message names the group.
        """
        order = self.topological
        names = [node.name for node in self.inputs]
        by_name = (
            input_size if isinstance(input_size, Mapping) else dict.fromkeys(names, input_size)
        )
        given = {name: _size(f"size of input {name!r}", size) for name, size in by_name.items()}
        if set(given) != set(names):
            raise NetworkError(
                f"input sizes are given for {', '.join(given) or 'nothing'} but the network's"
                f" inputs are {', '.join(names)}; give one size for each"
            )
        sizes = geometry.sizes_forward(order, self.edges, self._dilations, given)
        first, *others = self.outputs
        for other in others:
            if sizes[other.name] != sizes[first.name]:
                raise NetworkError(
                    f"output {first.name!r} would have size {show(sizes[first.name])} but output"
                    f" {other.name!r} {show(sizes[other.name])}; change the input sizes so that"
                    " they agree"
                )
        return sizes[first.name]

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every trainable array.

        "EDGE.filters" is (in, out, kz, ky, kx) for conv edge groups in order of declaration, then
        "NODE.biases" is (channels,) for transfer node groups.
        """
        self.validate()
        shapes: dict[str, tuple[int, ...]] = {}
        for edge in self.conv_edges:
            channels = (self.node(edge.input).size, self.node(edge.output).size)
            shapes[f"{edge.name}.filters"] = channels + edge.size
        for node in self.nodes:
            if node.has_biases:
                shapes[f"{node.name}.biases"] = (node.size,)
        return shapes

    def __repr__(self) -> str:
        """The table of `describe`; of an unfinished or impossible network what is wrong."""
        from znn_dask.network.table import describe  # it is written in terms of Network

        try:
            return describe(self)
        except NetworkError as error:
            groups = f"{len(self.nodes)} node groups, {len(self.edges)} edge groups"
            return f"Network, unfinished ({groups}): {error}"

    def _repr_html_(self) -> str | None:
        from znn_dask.display.network import network_html

        return network_html(self)


def _size(what: str, size: Sequence[int]) -> Triple:
    """`size` as plain ints; NetworkError unless it is z, y, x of at least 1."""
    try:
        checked = geometry.triple(map(index, size))
    except (TypeError, ValueError):
        checked = ZERO
    if min(checked) < 1:
        raise NetworkError(
            f"{what} is {size} but must be three whole numbers z,y,x of at least 1,1,1; change it"
        )
    return checked
