"""Writing a network the way one draws it: each method adds one operation and returns a new network.

    net = (
        Network()
        .input()
        .conv("conv1", 24, (1, 5, 5))
        .max_filter("pool1", (1, 2, 2), stride=(1, 2, 2))
        .conv("conv2", 36, (3, 3, 3))
        .conv("convx", 2, 1, "linear", node="output")
    )

An edge group `conv1` leads to a new node group `nconv1`, or to `node` when that is given, or joins
the existing group `to`, where all contributions are summed. It starts from `source`, or else from
the node group reached last.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import index
from typing import Self

from znn_dask.network.geometry import triple
from znn_dask.network.groups import EdgeGroup, NetworkError, NodeGroup, Triple

Size = int | Sequence[int]
"""Three numbers z, y, x, or one number for all three."""


@dataclass(frozen=True)
class Builder:
    """Node and edge groups in order of declaration, and methods that add to them.

    `last` is the node group from which a chain continues; empty for the only output.
    """

    nodes: tuple[NodeGroup, ...] = ()
    edges: tuple[EdgeGroup, ...] = ()
    last: str = field(default="", compare=False, repr=False)

    def input(self, name: str = "input", size: int = 1) -> Self:
        """Add an input group of `size` channels."""
        return self._with_node(NodeGroup(name, "input", size))

    def conv(
        self,
        name: str,
        channels: int,
        size: Size,
        function: str | None = None,
        *,
        function_args: Sequence[float] = (),
        stride: Size = 1,
        init: str | None = None,
        init_args: Sequence[float] = (),
        bias: float = 0.0,
        repeat: Size = 1,
        fft: bool | None = None,
        source: str | None = None,
        node: str | None = None,
        to: str | None = None,
    ) -> Self:
        """Convolve to `channels` maps with kernels of `size`, add a bias, apply `function`.

        `function` is rectify_linear when absent. `init` defaults to msra before rectify_linear and
        to xavier before any other function; `bias` is the first value of every bias. `stride`
        multiplies the dilation of everything after. With `to`, the convolution is added to an
        existing group, whose function and biases stay; then `channels` must be that group's.
        """
        edge = EdgeGroup(
            name,
            "conv",
            input=self._source(source),
            output="",
            size=as_triple(size, name),
            stride=as_triple(stride, name),
            init_args=tuple(init_args),
            repeat=as_triple(repeat, name),
            fft=fft,
        )
        if to is not None:
            target = self._joined(name, channels, to)
            if function is not None and function != target.function:
                raise NetworkError(
                    f"edge group {name!r}: function {function} but the group {to!r} that it joins"
                    f" has {target.function}; leave the function out"
                )
        else:
            target = NodeGroup(
                node or f"n{name}",
                "transfer",
                channels,
                function=function or "rectify_linear",
                function_args=tuple(function_args),
                init="constant" if bias else None,
                init_args=(bias,) if bias else (),
            )
        scaled = "msra" if target.function == "rectify_linear" else "xavier"
        return self._with_edge(replace(edge, init=init or scaled), target, joins=to is not None)

    def max_filter(
        self,
        name: str,
        size: Size,
        stride: Size,
        *,
        source: str | None = None,
        node: str | None = None,
        to: str | None = None,
    ) -> Self:
        """Take the running maximum over windows of `size`; `stride` dilates everything after."""
        window, step = as_triple(size, name), as_triple(stride, name)
        edge = EdgeGroup(name, "max_filter", self._source(source), "", size=window, stride=step)
        return self._one_to_one(edge, node, to)

    def max_pool(
        self,
        name: str,
        size: Size,
        *,
        source: str | None = None,
        node: str | None = None,
        to: str | None = None,
    ) -> Self:
        """Take the maximum of each block of `size`: maps become smaller, not sparser."""
        block = as_triple(size, name)
        edge = EdgeGroup(name, "max_pool", self._source(source), "", size=block, stride=block)
        return self._one_to_one(edge, node, to)

    def dropout(
        self,
        name: str = "dropout",
        ratio: float = 0.5,
        *,
        source: str | None = None,
        node: str | None = None,
        to: str | None = None,
    ) -> Self:
        """Keep each voxel with probability `ratio` (scaled by 1/ratio) in training."""
        edge = EdgeGroup(name, "dropout", self._source(source), "", ratio=ratio)
        return self._one_to_one(edge, node, to)

    def crop(
        self,
        name: str,
        offset: Size,
        *,
        source: str | None = None,
        node: str | None = None,
        to: str | None = None,
    ) -> Self:
        """Remove `offset` voxels from both ends of each axis."""
        margin = as_triple(offset, name)
        edge = EdgeGroup(name, "crop", self._source(source), "", offset=margin)
        return self._one_to_one(edge, node, to)

    def sum(
        self,
        name: str,
        *sources: str,
        function: str | None = None,
        function_args: Sequence[float] = (),
        dense: bool = False,
    ) -> Self:
        """Add up the maps of `sources`; with `function`, add biases and apply it to the sum.

        `dense` resets the dilation of what follows to 1; it is needed when the dilations of the
        sources differ.
        """
        node = NodeGroup(
            name,
            "sum" if function is None else "transfer",
            self._find(sources[0]).size if sources else 0,
            function=function or "linear",
            function_args=tuple(function_args),
            dense=dense,
        )
        return self._gather(node, "dummy", sources)

    def maxout(self, name: str, *sources: str) -> Self:
        """Take the largest of the maps of `sources`, voxel by voxel."""
        size = self._find(sources[0]).size if sources else 0
        return self._gather(NodeGroup(name, "maxout", size), "maxout", sources)

    def _gather(self, node: NodeGroup, kind: str, sources: Sequence[str]) -> Self:
        if len(sources) < 2:
            raise NetworkError(
                f"node group {node.name!r}: a {node.type} of {len(sources)} node groups;"
                " name at least 2"
            )
        for name in sources[1:]:
            size = self._find(name).size
            if size != node.size:
                raise NetworkError(
                    f"node group {node.name!r}: {sources[0]!r} has {node.size} channels but"
                    f" {name!r} has {size}; make them equal"
                )
        net = self._with_node(node)
        for name in sources:
            edge = EdgeGroup(f"{name}-{node.name}", kind, name, node.name)
            net = net._with_edge(edge, node, joins=True)
        return net

    def _one_to_one(self, edge: EdgeGroup, node: str | None, to: str | None) -> Self:
        size = self._find(edge.input).size
        if to is not None:
            return self._with_edge(edge, self._joined(edge.name, size, to), joins=True)
        return self._with_edge(edge, NodeGroup(node or f"n{edge.name}", "sum", size), joins=False)

    def _joined(self, edge: str, channels: int, to: str) -> NodeGroup:
        target = self._find(to)
        if target.size != channels:
            raise NetworkError(
                f"edge group {edge!r}: it has {channels} channels but the group {to!r} that it"
                f" joins has {target.size}; make them equal"
            )
        return target

    def _with_node(self, node: NodeGroup) -> Self:
        if any(node.name == known.name for known in self.nodes):
            raise NetworkError(
                f"node group {node.name!r} exists already; choose another name, or to={node.name!r}"
                " to add to it"
            )
        return replace(self, nodes=(*self.nodes, node), last=node.name)

    def _with_edge(self, edge: EdgeGroup, target: NodeGroup, *, joins: bool) -> Self:
        if any(edge.name == known.name for known in self.edges):
            raise NetworkError(f"edge group {edge.name!r} exists already; choose another name")
        net = self if joins else self._with_node(target)
        return replace(
            net, edges=(*self.edges, replace(edge, output=target.name)), last=target.name
        )

    def _find(self, name: str) -> NodeGroup:
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes) or "none"
        raise NetworkError(f"there is no node group {name!r}; use one of: {known}")

    def _source(self, name: str | None) -> str:
        if name is not None:
            return self._find(name).name
        if self.last:
            return self.last
        left = {edge.input for edge in self.edges}
        ends = [node.name for node in self.nodes if node.name not in left]
        if len(ends) != 1:
            raise NetworkError(
                f"a chain could continue from {', '.join(ends) or 'nothing yet'};"
                " name one with source=, or begin with an input"
            )
        return ends[0]


def as_triple(size: Size, group: str) -> Triple:
    """`size` as a z, y, x triple; one number stands for all three axes."""
    try:
        return triple(map(index, [size] * 3 if isinstance(size, int) else size))
    except (TypeError, ValueError):
        raise NetworkError(
            f"edge group {group!r}: {size} is not a size; give three whole numbers (z, y, x) or one"
        ) from None
