"""What makes a network possible: every check names the group, both values and the remedy."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import isfinite

from znn_dask.network.geometry import (
    dilations,
    show,
    sizes_backward,
    topological_order,
)
from znn_dask.network.groups import (
    EDGE_TYPES,
    FAN_INITIALISATIONS,
    FUNCTIONS,
    INITIALISATIONS,
    NODE_TYPES,
    EdgeGroup,
    NetworkError,
    NodeGroup,
    Triple,
)


def validate(nodes: Sequence[NodeGroup], edges: Sequence[EdgeGroup]) -> None:
    """Raise NetworkError, one line, for the first thing that is wrong with a network."""
    if not nodes:
        raise NetworkError("the network has no node groups; begin with an input group")
    _check_unique("node", (node.name for node in nodes))
    _check_unique("edge", (edge.name for edge in edges))
    for node in nodes:
        check_node(node)
    by_name = {node.name: node for node in nodes}
    for edge in edges:
        check_edge(edge)
        _check_ends(edge, by_name)
    for node in nodes:
        _check_connections(node, edges)
    order = topological_order(nodes, edges)
    dilation = dilations(order, edges)
    # Sizes are affine in the output size, so paths that agree at two sizes agree at all.
    for n in (1, 2):
        sizes_backward(order, edges, dilation, (n, n, n))


def check_node(node: NodeGroup) -> None:
    """Raise NetworkError when the node group is wrong by itself."""
    group = f"node group {node.name!r}"
    _check_word(group, "name", node.name)
    _check_choice(group, "type", node.type, NODE_TYPES)
    if node.size < 1:
        raise NetworkError(f"{group}: size {node.size} must be at least 1 channel; raise it")
    if node.type == "transfer":
        _check_choice(group, "function", node.function, FUNCTIONS)
        if len(node.function_args) > 2 and node.arguments:
            raise NetworkError(
                f"{group}: function {node.function} takes at most 2 arguments but has"
                f" {len(node.function_args)}; remove the others"
            )
    _check_numbers(group, "function_args", node.function_args)
    if node.init in FAN_INITIALISATIONS:
        raise NetworkError(
            f"{group}: init {node.init} needs the number of inputs, which biases do not have;"
            " use zero, constant, uniform, gaussian or bernoulli"
        )
    _check_init(group, node.init, node.init_args)


def check_edge(edge: EdgeGroup) -> None:
    """Raise NetworkError when the edge group is wrong by itself."""
    group = f"edge group {edge.name!r}"
    _check_word(group, "name", edge.name)
    _check_choice(group, "type", edge.type, EDGE_TYPES)
    for key, value, least in (
        ("size", edge.size, 1),
        ("stride", edge.stride, 1),
        ("repeat", edge.repeat, 1),
        ("offset", edge.offset, 0),
    ):
        _check_triple(group, key, value, least)
    if not 0 < edge.ratio <= 1:
        raise NetworkError(
            f"{group}: ratio {edge.ratio:g} must be above 0 and at most 1; it is the probability"
            " to keep a voxel"
        )
    if any(k % r for k, r in zip(edge.size, edge.repeat, strict=True)):
        raise NetworkError(
            f"{group}: repeat {show(edge.repeat)} does not divide size {show(edge.size)};"
            " change one of them"
        )
    if edge.type == "conv" and edge.init is None and "filters" not in dict(edge.options):
        raise NetworkError(f"{group}: conv has no init; add one, for example init msra")
    _check_init(group, edge.init, edge.init_args)


def _check_ends(edge: EdgeGroup, nodes: dict[str, NodeGroup]) -> None:
    group = f"edge group {edge.name!r}"
    for key, name in (("input", edge.input), ("output", edge.output)):
        if name not in nodes:
            raise NetworkError(
                f"{group}: {key} {name!r} is not a node group; there are {', '.join(nodes)}"
            )
    before, after = nodes[edge.input], nodes[edge.output]
    if edge.type != "conv" and before.size != after.size:
        raise NetworkError(
            f"{group}: {edge.type} joins maps one to one but {before.name!r} has {before.size}"
            f" channels and {after.name!r} has {after.size}; make them equal"
        )
    if (edge.type == "maxout") != (after.type == "maxout"):
        raise NetworkError(
            f"{group}: an edge of type {edge.type} cannot enter {after.name!r} of type"
            f" {after.type}; maxout edges belong to maxout node groups only"
        )
    if after.type == "input":
        raise NetworkError(
            f"{group}: its output {after.name!r} is of type input, which nothing may enter;"
            " make it a sum or transfer group"
        )


def _check_connections(node: NodeGroup, edges: Sequence[EdgeGroup]) -> None:
    group = f"node group {node.name!r}"
    if node.type == "input":
        if all(edge.input != node.name for edge in edges):
            raise NetworkError(f"{group}: no edge group leaves this input; connect or remove it")
    elif all(edge.output != node.name for edge in edges):
        raise NetworkError(
            f"{group}: no edge group enters this group of type {node.type}; connect it or make"
            " it an input"
        )


def _check_unique(kind: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise NetworkError(
                f"{kind} group {name!r} is defined {count} times; rename all but one of them"
            )


def _check_word(group: str, key: str, value: str) -> None:
    if len(value.split()) != 1 or value != value.strip():
        raise NetworkError(
            f"{group}: {key} {value!r} must be one word without spaces; join it with - or _"
        )


def _check_choice(group: str, key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise NetworkError(f"{group}: {key} {value!r} is unknown; use one of {', '.join(known)}")


def _check_triple(group: str, key: str, value: Triple, least: int) -> None:
    if len(value) != 3 or min(value) < least:
        raise NetworkError(
            f"{group}: {key} {show(value)} must be three numbers z,y,x of at least {least};"
            " change it"
        )


def _check_numbers(group: str, key: str, values: tuple[float, ...]) -> None:
    if not all(map(isfinite, values)):
        raise NetworkError(f"{group}: {key} {values} must be finite numbers; change it")


def _check_init(group: str, init: str | None, args: tuple[float, ...]) -> None:
    if init is None:
        return
    _check_choice(group, "init", init, INITIALISATIONS)
    _check_numbers(group, "init_args", args)
    if init == "constant" and not args:
        raise NetworkError(f"{group}: init constant needs its value; add for example init_args 0.1")
