"""What a network learns: the target, the loss, and the output function that belongs to it."""

from dataclasses import dataclass, replace

from znn_dask.kernels.losses import loss as find_loss
from znn_dask.network import Network

_CHANNELS = {"boundary": 2, "affinity": 3}
_DEFAULT_LOSS = {"boundary": "softmax", "affinity": "binomial"}


@dataclass(frozen=True)
class Objective:
    """A network with outputs that fit its loss, the loss's name, and the target's kind."""

    network: Network
    loss: str
    target: str


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
        target = kinds[0]
    if target not in _CHANNELS:
        raise ValueError(f"target {target!r} is unknown; use boundary or affinity")
    for node in network.outputs:
        if node.size != _CHANNELS[target]:
            raise ValueError(
                f"output {node.name!r} has {node.size} channels, target {target!r} needs "
                f"{_CHANNELS[target]}"
            )
    chosen = find_loss(_DEFAULT_LOSS[target] if loss == "auto" else loss)
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
    return Objective(network, chosen.name, target)
