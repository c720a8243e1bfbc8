"""What a network learns: the target, the loss, and the output function that belongs to it."""

from dataclasses import dataclass, replace
from typing import get_args

from znn_dask.data.targets import Kind, Target
from znn_dask.kernels.losses import loss as find_loss
from znn_dask.network import Network

_CHANNELS: dict[Kind, int] = {kind: Target(kind).channels for kind in get_args(Kind)}
_DEFAULT_LOSS: dict[Kind, str] = {"boundary": "softmax", "affinity": "binomial"}


@dataclass(frozen=True)
class Objective:
    """A network with outputs that fit its loss, the loss's name, and the target's kind."""

    network: Network
    loss: str
    target: Kind


def objective(
    network: Network, loss: str = "auto", target: str = "auto", output_function: str = "auto"
) -> Objective:
    """Resolve "auto" as ZNN does, and give the outputs the function that the loss needs.

    Three output channels mean "affinity" with loss "binomial", two mean "boundary" with "softmax".
    Softmax takes linear outputs and binomial takes forward_logistics; the network returned has
    those. Square losses take the outputs as they are. `output_function` overrides that: "keep"
    leaves what the network says, anything else is the name of the function.

    Raises
    ------
    ValueError
        If the output channels do not fit the target, or a name is unknown.
    """
    channels = network.outputs[0].size
    if target == "auto":
        kinds = [kind for kind, size in _CHANNELS.items() if size == channels]
        if not kinds:
            raise ValueError(
                f"output {network.outputs[0].name!r} has {channels} channels; "
                "use 2 (boundary) or 3 (affinity)"
            )
    else:
        kinds = [kind for kind in _CHANNELS if kind == target]
        if not kinds:
            raise ValueError(f"target {target!r} is unknown; use boundary or affinity")
    kind = kinds[0]
    for node in network.outputs:
        if node.size != _CHANNELS[kind]:
            raise ValueError(
                f"output {node.name!r} has {node.size} channels, target {kind!r} needs "
                f"{_CHANNELS[kind]}"
            )
    chosen = find_loss(_DEFAULT_LOSS[kind] if loss == "auto" else loss)
    function = chosen.output_function if output_function == "auto" else output_function
    if function is not None and function != "keep":
        outputs = {node.name for node in network.outputs}
        network = replace(
            network,
            nodes=tuple(
                replace(node, function=function, function_args=()) if node.name in outputs else node
                for node in network.nodes
            ),
        )
    return Objective(network, chosen.name, kind)
