"""Where the boxes of a network's drawing go: layers by depth, branches side by side.

The classical layered drawing (Sugiyama, Tagawa, Toda 1981): a node group's layer is the length of
the longest path to it; an edge that passes a layer occupies a place in it, so that it does not run
through a box; layers are ordered by the mean position of their neighbours, then pulled straight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from znn_dask.network.groups import EdgeGroup, NodeGroup

Item = str | tuple[str, int]
"""A node group's name, or (edge group's name, layer that the edge passes)."""

SWEEPS = 12


@dataclass(frozen=True)
class Layout:
    """Horizontal centre and layer of every node group, and the places that long edges pass."""

    x: Mapping[str, float]
    layer: Mapping[str, int]
    passes: Mapping[str, tuple[tuple[float, int], ...]]


def arrange(order: Sequence[NodeGroup], edges: Sequence[EdgeGroup], distance: float) -> Layout:
    """Lay out node groups given in topological order, neighbours at least `distance` apart."""
    layer: dict[str, int] = {}
    for node in order:
        before = [layer[edge.input] for edge in edges if edge.output == node.name]
        layer[node.name] = max(before, default=-1) + 1
    rows: list[list[Item]] = [[] for _ in range(max(layer.values()) + 1)]
    for node in order:
        rows[layer[node.name]].append(node.name)
    links: list[tuple[Item, Item]] = []
    for edge in edges:
        above: Item = edge.input
        for depth in range(layer[edge.input] + 1, layer[edge.output]):
            rows[depth].append((edge.name, depth))
            links.append((above, (edge.name, depth)))
            above = (edge.name, depth)
        links.append((above, edge.output))
    x = _place(rows, links, distance)
    left = min(x.values())
    return Layout(
        x={node.name: x[node.name] - left for node in order},
        layer=layer,
        passes={
            edge.name: tuple(
                (x[edge.name, depth] - left, depth)
                for depth in range(layer[edge.input] + 1, layer[edge.output])
            )
            for edge in edges
        },
    )


def _place(
    rows: list[list[Item]], links: Sequence[tuple[Item, Item]], distance: float
) -> dict[Item, float]:
    above: dict[Item, list[Item]] = {item: [] for row in rows for item in row}
    below: dict[Item, list[Item]] = {item: [] for row in rows for item in row}
    for upper, lower in links:
        above[lower].append(upper)
        below[upper].append(lower)
    x = {item: i * distance for row in rows for i, item in enumerate(row)}
    for sweep in range(SWEEPS):
        downward = sweep % 2 == 0
        for row in rows if downward else reversed(rows):
            neighbours = above if downward else below
            if sweep >= SWEEPS // 2:  # the order is settled: pull towards both sides
                neighbours = {item: above[item] + below[item] for item in row}
            wish = {item: _mean(x, neighbours[item], x[item]) for item in row}
            if sweep < SWEEPS // 2:
                row.sort(key=wish.__getitem__)
            x.update(zip(row, _spread([wish[item] for item in row], distance), strict=True))
    return x


def _mean(x: Mapping[Item, float], items: Sequence[Item], otherwise: float) -> float:
    return sum(x[item] for item in items) / len(items) if items else otherwise


def _spread(wishes: Sequence[float], distance: float) -> list[float]:
    """Positions nearest to the wishes (least squares) that are at least `distance` apart."""
    # Subtracting i * distance turns "distance apart" into "not decreasing": pool adjacent violators
    blocks: list[tuple[float, int]] = []
    for i, wish in enumerate(wishes):
        total, count = wish - i * distance, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            more, members = blocks.pop()
            total, count = total + more, count + members
        blocks.append((total, count))
    level = [total / count for total, count in blocks for _ in range(count)]
    return [value + i * distance for i, value in enumerate(level)]
