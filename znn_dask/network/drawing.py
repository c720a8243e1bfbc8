"""A picture of a network as standalone SVG, readable on light and dark pages."""

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import prod
from typing import Final

from znn_dask.network.graph import Network
from znn_dask.network.groups import ONE, EdgeGroup, NodeGroup, Triple
from znn_dask.network.layout import Layout, arrange

Point = tuple[float, float]

BOX_HEIGHT: Final = 46
PITCH: Final = 108
MARGIN: Final = 24
HEADER: Final = 52
TOP: Final = MARGIN + HEADER

# (light, dark) colours; the picture brings its own background, so both always fit together.
PAGE: Final = ("#ffffff", "#16191f")
INK: Final = ("#1c2230", "#e8ebf1")
FAINT: Final = ("#667085", "#98a2b3")
BOXES: Final = {
    "input": (("#dbeafe", "#1d3557"), ("#3b82f6", "#60a5fa")),
    "transfer": (("#e7f6ee", "#15352a"), ("#2f9e6e", "#4ade9c")),
    "sum": (("#f1f3f6", "#262c36"), ("#98a2b3", "#7b8698")),
    "maxout": (("#f3e8ff", "#35204f"), ("#9353d3", "#c084fc")),
    "result": (("#fff0dd", "#42290f"), ("#e07b17", "#fbaa4c")),
}
LINES: Final = {
    "conv": ("#2f6f9e", "#74b3e0"),
    "max_filter": ("#b4472e", "#f0876e"),
    "max_pool": ("#b4472e", "#f0876e"),
    "dropout": ("#8a6d1b", "#d9b84a"),
    "crop": ("#7a4fb0", "#b794f4"),
    "maxout": ("#9353d3", "#c084fc"),
    "dummy": ("#667085", "#98a2b3"),
}


def draw(net: Network, output_size: Triple | None = None) -> str:
    """The network as SVG text: node groups as boxes, edge groups as labelled arrows, inputs on top.

    Map sizes (z×y×x) are those for outputs of `output_size`, 1,1,1 when absent. Raises NetworkError
    when the network or the size is impossible.
    """
    sizes = net.sizes(output_size or ONE)
    lines = [line for node in net.nodes for line in _node_lines(node, sizes[node.name])]
    box_width = 24 + max(map(_width, lines))
    label_width = max(_label_width(net, edge) for edge in net.edges)
    layout = arrange(net.topological, net.edges, max(box_width, label_width) + 36)
    title, note = _header(net, output_size or ONE)
    routes = {edge.name: _route(edge, layout) for edge in net.edges}
    labels = {edge.name: _label_place(net, edge, routes[edge.name]) for edge in net.edges}
    middles = [x for route in routes.values() for x, _ in route]
    first = min(place.left(net, net.edge(name)) for name, place in labels.items())
    first = min(first, min(middles) - box_width / 2)
    last = max(place.right(net, net.edge(name)) for name, place in labels.items())
    last = max(last, max(middles) + box_width / 2)
    width = max(last - first, _width(title) * 1.2, _width(note)) + 2 * MARGIN
    height = TOP + max(layout.layer.values()) * PITCH + BOX_HEIGHT + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="znn-network" role="img"'
            f' width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
            f' aria-label="{escape(title)}">',
            f"<style>{_style()}</style>",
            '<rect class="page" width="100%" height="100%" rx="14"/>',
            f'<text class="title" x="{MARGIN}" y="{MARGIN + 14}">{escape(title)}</text>',
            f'<text class="faint" x="{MARGIN}" y="{MARGIN + 34}">{escape(note)}</text>',
            f'<g transform="translate({MARGIN - first:.1f})">',
            *(_draw_edge(edge, routes[edge.name]) for edge in net.edges),
            *(_draw_node(net, n, sizes[n.name], layout, box_width) for n in net.nodes),
            *(_draw_label(net, edge, labels[edge.name]) for edge in net.edges),
            "</g>",
            "</svg>",
        ]
    )


def times(size: Triple) -> str:
    """`(1, 3, 3)` as it is read aloud: `1×3×3`."""
    return "×".join(map(str, size))


def _header(net: Network, output_size: Triple) -> tuple[str, str]:
    parameters = sum(map(prod, net.parameter_shapes().values()))
    return (
        f"field of view {times(net.field_of_view)}",
        f"{parameters:,} parameters · map sizes (z×y×x) for an output of {times(output_size)}",
    )


def _node_lines(node: NodeGroup, size: Triple) -> tuple[str, str]:
    maps = "1 map" if node.size == 1 else f"{node.size} maps"
    operation = node.function if node.type == "transfer" else node.type
    if node.dense:
        operation += ", dense"
    return node.name, f"{maps} · {times(size)} · {operation}"


def _draw_node(net: Network, node: NodeGroup, size: Triple, layout: Layout, width: float) -> str:
    kind = "result" if node in net.outputs else node.type
    x = layout.x[node.name]
    y = TOP + layout.layer[node.name] * PITCH
    name, facts = _node_lines(node, size)
    hint = f"{node.name}: {node.size} maps of {times(size)} voxels"
    if node.type == "transfer":
        arguments = ", ".join(f"{a:g}" for a in node.arguments)
        hint += f", {node.function}({arguments})" if arguments else f", {node.function}"
    return (
        f'<g class="box {kind}"><title>{escape(hint)}</title>'
        f'<rect x="{x - width / 2:.1f}" y="{y}" width="{width:.1f}" height="{BOX_HEIGHT}" rx="9"/>'
        f'<text class="name" x="{x:.1f}" y="{y + 19}">{escape(name)}</text>'
        f'<text class="facts" x="{x:.1f}" y="{y + 36}">{escape(facts)}</text></g>'
    )


def _label_lines(net: Network, edge: EdgeGroup) -> tuple[tuple[str, str], str]:
    """Name, operation; and a second line with what is special about it."""
    operation, special = edge.type.replace("_", " "), []
    match edge.type:
        case "conv" | "max_filter":
            operation += f" {times(edge.size)}"
            dilation = net.dilation(edge.input)
            if dilation != ONE and edge.size != ONE:
                special.append(f"dilation {times(dilation)}")
            if edge.stride != ONE:
                special.append(f"stride {times(edge.stride)}")
            if edge.repeat != ONE:
                special.append(f"repeat {times(edge.repeat)}")
        case "max_pool":
            operation += f" {times(edge.size)}"
        case "dropout":
            operation += f" keep {edge.ratio:g}"
        case "crop":
            operation += f" {times(edge.offset)}"
    return (edge.name, operation), ", ".join(special)


def _label_width(net: Network, edge: EdgeGroup) -> float:
    (name, operation), special = _label_lines(net, edge)
    return max(_width(f"{name} {operation}"), _width(special))


def _route(edge: EdgeGroup, layout: Layout) -> list[Point]:
    """Points that the line of an edge group connects, from box to box."""
    bottom = TOP + BOX_HEIGHT
    route = [(layout.x[edge.input], float(bottom + layout.layer[edge.input] * PITCH))]
    for x, layer in layout.passes[edge.name]:
        route += [(x, TOP + layer * PITCH), (x, bottom + layer * PITCH)]
    return [*route, (layout.x[edge.output], float(TOP + layout.layer[edge.output] * PITCH))]


def _draw_edge(edge: EdgeGroup, route: list[Point]) -> str:
    *before, (tip_x, tip_y) = route
    path = f"M{route[0][0]:.1f},{route[0][1]:.0f}"
    for (xa, ya), (xb, yb) in pairwise([*before, (tip_x, tip_y - 5)]):
        bend = (yb - ya) * 0.55
        path += f" C{xa:.1f},{ya + bend:.1f} {xb:.1f},{yb - bend:.1f} {xb:.1f},{yb:.1f}"
    tip = f"M{tip_x - 5:.1f},{tip_y - 8:.0f} h10 L{tip_x:.1f},{tip_y:.0f} Z"
    return (
        f'<g class="{edge.type}"><path class="shaft" d="{path}"/><path class="tip" d="{tip}"/></g>'
    )


@dataclass(frozen=True)
class _LabelPlace:
    x: float
    y: float
    leftward: bool = False

    def left(self, net: Network, edge: EdgeGroup) -> float:
        return self.x - (_label_width(net, edge) if self.leftward else 0)

    def right(self, net: Network, edge: EdgeGroup) -> float:
        return self.x + (0 if self.leftward else _label_width(net, edge))


def _label_place(net: Network, edge: EdgeGroup, route: list[Point]) -> _LabelPlace:
    # Where lines meet at one end, the other end has room.
    fans_out = len(net.edges_from(edge.input)) > 1
    (x0, y0), (x1, y1) = route[-2:] if fans_out else route[:2]
    if abs(x1 - x0) < 1:
        return _LabelPlace(x0 + 10, (y0 + y1) / 2)
    if fans_out:
        leftward = x1 < x0
        return _LabelPlace(x1 - 10 if leftward else x1 + 10, y0 + 0.66 * (y1 - y0), leftward)
    leftward = x1 > x0
    return _LabelPlace(x0 - 10 if leftward else x0 + 10, y0 + 0.3 * (y1 - y0), leftward)


def _draw_label(net: Network, edge: EdgeGroup, place: _LabelPlace) -> str:
    (name, operation), special = _label_lines(net, edge)
    y = place.y + (-3 if special else 4)
    second = f'<tspan class="faint" x="{place.x:.1f}" dy="15">{escape(special)}</tspan>'
    return (
        f'<text class="label{" leftward" if place.leftward else ""}" x="{place.x:.1f}"'
        f' y="{y:.1f}">{escape(name)} <tspan class="{edge.type}">{escape(operation)}</tspan>'
        f"{second if special else ''}</text>"
    )


def _width(text: str) -> float:
    """Generous width of a line of text in the picture's font, in pixels."""
    return 6.7 * len(text)


def _style() -> str:
    base = (
        ".znn-network{max-width:100%;height:auto}"
        ".znn-network text{font:12px 'Inter','Helvetica Neue',Arial,sans-serif}"
        ".znn-network .title{font-size:15px;font-weight:600}"
        ".znn-network .box text{text-anchor:middle}"
        ".znn-network .box rect{stroke-width:1.4}"
        ".znn-network .name{font-weight:600;font-size:13px}"
        ".znn-network .shaft{fill:none;stroke-width:1.8}"
        ".znn-network .dropout .shaft{stroke-dasharray:5 4}"
        ".znn-network .label{paint-order:stroke;stroke-width:4px;stroke-linejoin:round}"
        ".znn-network .leftward{text-anchor:end}"
        ".znn-network .label tspan{font-weight:600}"
        ".znn-network .label .faint{font-weight:400}"
    )
    return base + colours(0) + "@media (prefers-color-scheme:dark){" + colours(1) + "}"


def colours(theme: int, under: str = "") -> str:
    """CSS rules of the light (0) or dark (1) theme, for pictures `under` a selector."""
    here = f"{under}.znn-network"
    rules = [
        f"{here} .page{{fill:{PAGE[theme]}}}",
        f"{here} text{{fill:{INK[theme]}}}",
        f"{here} .facts,{here} .faint{{fill:{FAINT[theme]}}}",
        f"{here} .label{{stroke:{PAGE[theme]}}}",
    ]
    for kind, (fill, stroke) in BOXES.items():
        rules.append(f"{here} .{kind} rect{{fill:{fill[theme]};stroke:{stroke[theme]}}}")
    for kind, colour in LINES.items():
        rules.append(f"{here} .{kind} .shaft{{stroke:{colour[theme]}}}")
        rules.append(f"{here} .{kind} .tip{{fill:{colour[theme]}}}")
        rules.append(f"{here} tspan.{kind}{{fill:{colour[theme]}}}")
    return "".join(rules)
