"""Networks and forward passes: the drawing, and the table behind it."""

from html import escape
from math import prod

from znn_dask.display.page import facts, folded, harmless, note, page
from znn_dask.network import Network, NetworkError, describe
from znn_dask.network.drawing import colours, draw
from znn_dask.network.geometry import show
from znn_dask.network.groups import Triple
from znn_dask.taskgraph.forward import ForwardPass

# JupyterLab says on its <body> which theme it has, whatever the system prefers.
_THEMES = "".join(
    colours(theme, f'[data-jp-theme-light="{light}"] ')
    for theme, light in enumerate(("true", "false"))
)


@harmless
def network_html(network: Network) -> str:
    """The drawing, and the table of all layers folded below it."""
    try:
        return page("Network", _drawing(network), folded("all layers", network_table(network)))
    except NetworkError as error:
        return page("Network, unfinished", note(str(error)))


@harmless
def forward_html(forward: ForwardPass) -> str:
    """What goes in, what comes out, how it is computed."""
    network, size = forward.network, forward.arithmetic.output_size
    maps = [(f"input {name}", show(needed)) for name, needed in network.input_sizes(size).items()]
    maps += [(f"output {node.name}", f"{show(size)}, {node.size} maps") for node in network.outputs]
    methods = {name: how.algorithm for name, how in forward.arithmetic.convolutions.items()}
    return page(
        "Forward pass",
        facts(
            [
                *maps,
                ("parameters", f"{sum(p.size for p in forward.parameters.values()):,}"),
                ("precision", forward.arithmetic.dtype),
                ("convolutions", ", ".join(f"{n} {how}" for n, how in methods.items())),
            ]
        ),
        folded("network", _drawing(network, size)),
    )


def parameter_count(network: Network) -> int:
    """Trainable numbers of a network."""
    return sum(map(prod, network.parameter_shapes().values()))


def _drawing(network: Network, output_size: Triple | None = None) -> str:
    return f"<style>{_THEMES}</style>{draw(network, output_size)}"


def network_table(network: Network) -> str:
    return f'<div class="scroll"><pre>{escape(describe(network))}</pre></div>'
