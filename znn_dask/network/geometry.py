"""Sizes of maps: pure arithmetic on node and edge groups.

A network is computed densely: a stride does not thin a map out, it multiplies the dilation of every
window after it, so that the result equals that of sliding the strided network over each voxel.
Dilations flow forward from the inputs, sizes and fields of view backward from the outputs.
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush

from znn_dask.network.groups import ONE, EdgeGroup, NetworkError, NodeGroup, Triple


def triple(values: Iterable[int]) -> Triple:
    """Three ints as a z, y, x triple."""
    z, y, x = values
    return (z, y, x)


def show(size: Triple) -> str:
    """`(1, 3, 3)` as users write it: `1,3,3`."""
    return ",".join(map(str, size))


def topological_order(
    nodes: Sequence[NodeGroup], edges: Sequence[EdgeGroup]
) -> tuple[NodeGroup, ...]:
    """Node groups such that every edge goes forward; ties keep the order of declaration.

    Raises NetworkError naming the groups of a cycle.
    """
    index = {node.name: i for i, node in enumerate(nodes)}
    waiting = {node.name: 0 for node in nodes}
    followers: dict[str, list[str]] = {node.name: [] for node in nodes}
    for edge in edges:
        waiting[edge.output] += 1
        followers[edge.input].append(edge.output)
    ready = [index[name] for name, count in waiting.items() if count == 0]
    heapify(ready)
    order: list[NodeGroup] = []
    while ready:
        node = nodes[heappop(ready)]
        order.append(node)
        for follower in followers[node.name]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heappush(ready, index[follower])
    if len(order) < len(nodes):
        cycle = _find_cycle({n for n, count in waiting.items() if count}, edges)
        raise NetworkError(
            f"node groups form a cycle: {' -> '.join(cycle)}; remove one of the edges between them"
        )
    return tuple(order)


def _find_cycle(blocked: set[str], edges: Sequence[EdgeGroup]) -> list[str]:
    """A cycle among node groups each of which waits for another of them."""
    # Each blocked group has a blocked predecessor, so walking backward must return to the path.
    before = {edge.output: edge.input for edge in edges if {edge.input, edge.output} <= blocked}
    path = [min(blocked)]
    while (previous := before[path[-1]]) not in path:
        path.append(previous)
    cycle = path[path.index(previous) :]
    return [previous, *reversed(cycle)]


def dilations(order: Sequence[NodeGroup], edges: Sequence[EdgeGroup]) -> dict[str, Triple]:
    """Dilation (z, y, x) of each node group's maps: the product of the strides before it.

    Raises NetworkError when paths into one group disagree, or a max_pool meets a dilation.
    """
    result: dict[str, Triple] = {}
    source: dict[str, str] = {}
    dense = {node.name for node in order if node.dense}
    for node in order:
        here = ONE if node.dense else result.get(node.name, ONE)
        result[node.name] = here
        for edge in edges:
            if edge.input != node.name:
                continue
            if edge.type == "max_pool" and here != ONE:
                raise NetworkError(
                    f"edge group {edge.name!r}: max_pool of a map with dilation {show(here)} is not"
                    f" defined (it needs 1,1,1); use max_filter with stride {show(edge.size)}"
                )
            stride = edge.stride if edge.slides else ONE
            there = triple(a * b for a, b in zip(here, stride, strict=True))
            known = result.setdefault(edge.output, there)
            if known != there and edge.output not in dense:
                raise NetworkError(
                    f"node group {edge.output!r}: edge group {source[edge.output]!r} brings a"
                    f" dilation of {show(known)} but edge group {edge.name!r} brings {show(there)};"
                    " make the strides equal, or let dense 1 at the group reset the dilation"
                )
            source.setdefault(edge.output, edge.name)
    return result


def size_before(edge: EdgeGroup, size: Triple, dilation: Triple) -> Triple:
    """Size of the map that `edge`, with the dilation of its input, needs to produce `size`."""
    match edge.type:
        case "conv" | "max_filter":
            return triple(
                n + (k - 1) * d for n, k, d in zip(size, edge.size, dilation, strict=True)
            )
        case "max_pool":
            return triple(n * k for n, k in zip(size, edge.size, strict=True))
        case "crop":
            return triple(n + 2 * o for n, o in zip(size, edge.offset, strict=True))
    return size


def size_after(edge: EdgeGroup, size: Triple, dilation: Triple) -> Triple:
    """Size of the map that `edge` makes of a map of `size`: the inverse of `size_before`.

    Raises NetworkError when a max_pool does not divide the map or nothing is left of it.
    """
    match edge.type:
        case "conv" | "max_filter":
            after = triple(
                n - (k - 1) * d for n, k, d in zip(size, edge.size, dilation, strict=True)
            )
        case "max_pool":
            if any(n % k for n, k in zip(size, edge.size, strict=True)):
                raise NetworkError(
                    f"edge group {edge.name!r}: max_pool {show(edge.size)} does not divide its"
                    f" input map {show(size)}; change the input size so that it does"
                )
            after = triple(n // k for n, k in zip(size, edge.size, strict=True))
        case "crop":
            after = triple(n - 2 * o for n, o in zip(size, edge.offset, strict=True))
        case _:
            after = size
    if min(after) < 1:
        raise NetworkError(
            f"edge group {edge.name!r}: nothing is left of its input map {show(size)}, it needs at"
            f" least {show(size_before(edge, ONE, dilation))}; use a larger input"
        )
    return after


def sizes_backward(
    order: Sequence[NodeGroup],
    edges: Sequence[EdgeGroup],
    dilation: Mapping[str, Triple],
    output_size: Triple,
) -> dict[str, Triple]:
    """Size of every map when all outputs have `output_size`.

    Raises NetworkError when two paths need different sizes of one node group.
    """
    result: dict[str, Triple] = {}
    for node in reversed(order):
        following = [edge for edge in edges if edge.input == node.name]
        needs = [size_before(e, result[e.output], dilation[node.name]) for e in following]
        for edge, need in zip(following, needs, strict=True):
            if need != needs[0]:
                raise NetworkError(
                    f"node group {node.name!r}: edge group {following[0].name!r} needs maps of"
                    f" {show(needs[0])} but edge group {edge.name!r} needs {show(need)} for an"
                    f" output of {show(output_size)}; make both paths equal, for example by a crop"
                )
        result[node.name] = needs[0] if needs else output_size
    return result


def sizes_forward(
    order: Sequence[NodeGroup],
    edges: Sequence[EdgeGroup],
    dilation: Mapping[str, Triple],
    input_sizes: Mapping[str, Triple],
) -> dict[str, Triple]:
    """Size of every map for given input maps.

    Raises NetworkError where a map would be empty, a max_pool does not divide, or paths disagree.
    """
    result: dict[str, Triple] = dict(input_sizes)
    source: dict[str, str] = {}
    for node in order:
        for edge in edges:
            if edge.input != node.name:
                continue
            after = size_after(edge, result[node.name], dilation[node.name])
            known = result.setdefault(edge.output, after)
            if known != after:
                raise NetworkError(
                    f"node group {edge.output!r}: edge group {source[edge.output]!r} brings maps of"
                    f" {show(known)} but edge group {edge.name!r} brings {show(after)};"
                    " change the input sizes so that they agree"
                )
            source.setdefault(edge.output, edge.name)
    return result


def fields_of_view(
    order: Sequence[NodeGroup], edges: Sequence[EdgeGroup], dilation: Mapping[str, Triple]
) -> dict[str, Triple]:
    """For each node group, how far one output voxel sees into its maps, in voxels of these maps."""
    result: dict[str, Triple] = {}
    for node in reversed(order):
        # A crop discards voxels, so it needs a larger map but sees no further.
        seen = [
            result[e.output]
            if e.type == "crop"
            else size_before(e, result[e.output], dilation[node.name])
            for e in edges
            if e.input == node.name
        ]
        result[node.name] = triple(map(max, zip(*seen, strict=True))) if seen else ONE
    return result


def fields_of_view_so_far(
    order: Sequence[NodeGroup], edges: Sequence[EdgeGroup], dilation: Mapping[str, Triple]
) -> dict[str, Triple]:
    """For each node group, how many input voxels one of its voxels depends on, per axis."""
    seen = {node.name: ONE for node in order}
    spacing = {node.name: ONE for node in order}  # input voxels between neighbours, after max_pool
    for node in order:
        for edge in edges:
            if edge.input != node.name:
                continue
            step = spacing[node.name]
            reach = ONE if edge.type == "crop" else size_before(edge, ONE, dilation[node.name])
            view = triple(
                a + (r - 1) * s for a, r, s in zip(seen[node.name], reach, step, strict=True)
            )
            seen[edge.output] = triple(map(max, zip(view, seen[edge.output], strict=True)))
            if edge.type == "max_pool":
                step = triple(a * b for a, b in zip(step, edge.size, strict=True))
            # Inputs of different resolution may meet: count voxels of the finest.
            spacing[edge.output] = triple(map(max, zip(step, spacing[edge.output], strict=True)))
    return seen
