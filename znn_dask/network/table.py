"""A network as a text table."""

from collections.abc import Sequence
from math import prod
from typing import Final

from znn_dask.network.geometry import show
from znn_dask.network.graph import Network
from znn_dask.network.groups import ONE, EdgeGroup, NodeGroup, Triple

COLUMNS: Final = (
    "edge group",
    "type",
    "kernel",
    "stride",
    "dilation",
    "node group",
    "channels",
    "function",
    "map size",
    "field of view",
    "parameters",
)
RIGHT_ALIGNED: Final = ("channels", "parameters")


def describe(net: Network, output_size: Triple | None = None) -> str:
    """The network as text: one line per edge group, in the order in which maps are computed.

    Map sizes (z,y,x) are those for outputs of `output_size`, 1,1,1 when absent; "field of view" is
    how many input voxels one voxel of the map depends on so far. Where several edge groups enter
    one node group they are summed, and its function and biases stand in the last of their lines.
    Raises NetworkError when the network or the size is impossible.
    """
    size = output_size or ONE
    sizes = net.sizes(size)
    rows: list[tuple[str, ...]] = []
    for node in net.topological:
        entering = net.edges_into(node.name)
        facts = (show(sizes[node.name]), show(net.fields_of_view_so_far[node.name]))
        if not entering:
            rows.append(("", "", "", "", "", node.name, str(node.size), "input", *facts, ""))
        rows += [_row(net, edge, node, facts, edge is entering[-1]) for edge in entering]
    parameters = sum(map(prod, net.parameter_shapes().values()))
    inputs = ", ".join(f"{name} {show(needed)}" for name, needed in net.input_sizes(size).items())
    outputs = ", ".join(f"{node.name} {show(size)}" for node in net.outputs)
    return "\n".join(
        [
            *_aligned([COLUMNS, *rows]),
            "",
            f"field of view  {show(net.field_of_view)}",
            f"map sizes      {inputs} -> {outputs}",
            f"parameters     {parameters:,}",
        ]
    )


def _row(
    net: Network, edge: EdgeGroup, node: NodeGroup, facts: tuple[str, str], last: bool
) -> tuple[str, ...]:
    shapes = net.parameter_shapes()
    parameters = prod(shapes.get(f"{edge.name}.filters", (0,)))
    if last:
        parameters += prod(shapes.get(f"{node.name}.biases", (0,)))
    function = node.function if node.type == "transfer" else node.type
    return (
        edge.name,
        edge.type,
        _kernel(edge),
        show(edge.stride) if edge.slides and edge.stride != ONE else "",
        show(net.dilation(edge.input)) if edge.slides else "",
        node.name,
        str(node.size),
        function if last else "+",
        *facts,
        f"{parameters:,}" if parameters else "",
    )


def _kernel(edge: EdgeGroup) -> str:
    match edge.type:
        case "conv" | "max_filter" | "max_pool":
            return show(edge.size)
        case "crop":
            return show(edge.offset)
        case "dropout":
            return f"keep {edge.ratio:g}"
    return ""


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if title in RIGHT_ALIGNED else cell.ljust(width)
            for title, cell, width in zip(COLUMNS, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines
