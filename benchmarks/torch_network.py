"""A network as a module of PyTorch: the dense equivalent, with dilated windows.

It runs in any interpreter that has torch; of znn_dask it needs the description of networks alone.
ZNN's convolution is a true one and PyTorch's a correlation, so kernels are mirrored.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor, nn
from torch.nn import functional

from znn_dask.network import EdgeGroup, Network, NodeGroup

Parameters = Mapping[str, np.ndarray]

LAYOUTS = {
    "channels first": torch.contiguous_format,
    "channels last": torch.channels_last_3d,
    "flat, channels first": torch.contiguous_format,
    "flat, channels last": torch.channels_last,
}
"""Name -> how PyTorch keeps maps: flat ones, (1, channel, y, x), for two-dimensional windows."""


class TorchNetwork(nn.Module):
    """Maps (1, channel, z, y, x) of the input node groups to those of the output node groups.

    Parameters
    ----------
    parameters
        `"edge.filters"` (in, out, kz, ky, kx) and `"node.biases"` (n,): ZNN's layout.
    flat
        Compute with maps (1, channel, y, x): for maps of one plane and a network that `is_flat`.

    Raises
    ------
    ValueError
        If a kernel is tied: PyTorch has no such convolution.
    """

    def __init__(self, network: Network, parameters: Parameters, flat: bool = False) -> None:
        super().__init__()
        self.network = network
        self._axes = slice(1, 3) if flat else slice(0, 3)
        self._conv = functional.conv2d if flat else functional.conv3d
        self._max_pool = functional.max_pool2d if flat else functional.max_pool3d
        self.kernels = nn.ParameterDict()
        self.biases = nn.ParameterDict()
        for edge in network.conv_edges:
            if edge.repeat != (1, 1, 1):
                raise ValueError(f"edge group {edge.name!r} has tied kernels: repeat {edge.repeat}")
            kernel = kernel_to_torch(parameters[f"{edge.name}.filters"])
            self.kernels[edge.name] = nn.Parameter(kernel[:, :, 0] if flat else kernel)
        for node in network.nodes:
            if node.has_biases:
                biases = np.ascontiguousarray(parameters[f"{node.name}.biases"])
                self.biases[node.name] = nn.Parameter(torch.from_numpy(biases))

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by node group."""
        maps = dict(inputs)
        for node in self.network.topological:
            if node.type != "input":
                maps[node.name] = self._node(node, maps)
        return {node.name: maps[node.name] for node in self.network.outputs}

    def gradients(self) -> dict[str, np.ndarray]:
        """Gradients of all parameters after a backward pass, in ZNN's layout."""
        found = {f"{name}.biases": p.grad.numpy() for name, p in self.biases.items()}
        for name, p in self.kernels.items():
            gradient = p.grad if p.grad.dim() == 5 else p.grad[:, :, None]
            found[f"{name}.filters"] = kernel_to_znn(gradient)
        return found

    def _node(self, node: NodeGroup, maps: Mapping[str, Tensor]) -> Tensor:
        edges = self.network.edges_into(node.name)
        bias = self.biases[node.name] if node.has_biases else None
        # The first convolution adds the biases on its way.
        adder = next((edge.name for edge in edges if edge.type == "conv"), None)
        arriving = [
            self._edge(edge, maps[edge.input], bias if edge.name == adder else None)
            for edge in edges
        ]
        total = arriving[0]
        for other in arriving[1:]:
            total = torch.maximum(total, other) if node.type == "maxout" else total + other
        if node.type != "transfer":
            return total
        assert bias is not None
        if adder is None:
            total = total + bias.reshape(-1, *[1] * (total.dim() - 2))
        return _transfer(node, total)

    def _edge(self, edge: EdgeGroup, x: Tensor, bias: Tensor | None) -> Tensor:
        size = edge.size[self._axes]
        dilation = self.network.dilation(edge.input)[self._axes]
        if edge.type == "conv":
            return self._conv(x, self.kernels[edge.name], bias, dilation=dilation)
        if edge.type == "max_filter":
            return self._max_pool(x, size, stride=1, dilation=dilation)
        if edge.type == "max_pool":
            return self._max_pool(x, size)
        if edge.type == "dropout":
            return functional.dropout(x, 1 - edge.ratio, self.training)
        if edge.type == "crop":
            return x[..., *(slice(o, -o or None) for o in edge.offset[self._axes])]
        return x  # dummy; a maxout edge only names what its node group compares


def is_flat(network: Network) -> bool:
    """Whether no window of the network extends along z."""
    return all(edge.size[0] == 1 and edge.offset[0] == 0 for edge in network.edges)


def kernel_to_torch(filters: np.ndarray) -> Tensor:
    """Kernels (in, out, kz, ky, kx) as PyTorch's (out, in, kz, ky, kx), mirrored."""
    return torch.from_numpy(
        np.ascontiguousarray(filters[:, :, ::-1, ::-1, ::-1].transpose(1, 0, 2, 3, 4))
    )


def kernel_to_znn(weight: Tensor) -> np.ndarray:
    """The inverse of `kernel_to_torch`."""
    return weight.detach().numpy()[:, :, ::-1, ::-1, ::-1].transpose(1, 0, 2, 3, 4)


def square_loss(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Sum of the squared differences, as znn_dask's "square"."""
    losses: Iterable[Tensor] = (
        functional.mse_loss(outputs[name], targets[name], reduction="sum") for name in outputs
    )
    return sum(losses, torch.zeros(()))


def _transfer(node: NodeGroup, x: Tensor) -> Tensor:
    match node.function, node.arguments:
        case "rectify_linear", _:
            return functional.relu(x)
        case "linear", (1.0, 0.0):
            return x
        case "linear", (a, b):
            return a * x + b
        case "tanh", (a, b):
            return a * torch.tanh(b * x)
        case "soft_sign", _:
            return functional.softsign(x)
        case "logistics", _:
            return torch.sigmoid(x)
        case "forward_logistics", _:
            return _ForwardLogistics.apply(x)
    raise ValueError(f"node group {node.name!r}: unknown transfer function {node.function!r}")


class _ForwardLogistics(torch.autograd.Function):
    """The logistic function, whose gradient is taken to be given before it."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return gradient
