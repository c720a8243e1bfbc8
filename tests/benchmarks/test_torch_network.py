"""The network as a module of PyTorch: the same outputs and gradients as ours."""

import numpy as np
import pytest

from znn_dask import gradients
from znn_dask.network import Network
from znn_dask.training.initial import initial_parameters

torch = pytest.importorskip("torch", reason="PyTorch is an extra of the benchmarks")
torch_network = pytest.importorskip("torch_network")

NETWORKS = {
    "max-filter": Network()
    .input()
    .conv("c1", 3, (2, 3, 3))
    .max_filter("p1", (2, 2, 2), (2, 2, 2))
    .conv("c2", 2, (2, 2, 3), "tanh"),
    "max-pool": Network()
    .input()
    .conv("c1", 3, (3, 3, 3))
    .max_pool("p1", (2, 2, 2))
    .conv("c2", 2, (1, 1, 1)),
    "flat": Network()
    .input()
    .conv("c1", 3, (1, 3, 2), "soft_sign")
    .max_filter("p1", (1, 2, 2), (1, 2, 2))
    .conv("c2", 2, (1, 3, 3), "forward_logistics"),
}


def maps(rng: np.random.Generator, nodes: tuple, sizes: dict) -> dict[str, np.ndarray]:
    return {node.name: rng.standard_normal((node.size, *sizes[node.name])) for node in nodes}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("flat", [False, True])
def test_outputs_and_gradients_are_ours(name: str, flat: bool):
    network = NETWORKS[name]
    if flat and not torch_network.is_flat(network):
        pytest.skip("not flat in z")
    rng = np.random.default_rng(0)
    sizes = network.sizes((1 if "flat" in name else 3, 4, 5))
    parameters = initial_parameters(network, 0, "float64")
    inputs = maps(rng, network.inputs, sizes)
    backward = maps(rng, network.outputs, sizes)
    outputs, expected = gradients(network, parameters, inputs, backward)

    module = torch_network.TorchNetwork(network, parameters, flat)
    cut = (None, slice(None), 0) if flat else (None,)
    found = module({k: torch.from_numpy(v[cut]) for k, v in inputs.items()})
    loss = sum((found[k] * torch.from_numpy(v[cut])).sum() for k, v in backward.items())
    loss.backward()
    for node, values in outputs.items():
        mine = found[node].detach().numpy().reshape(values.shape)
        np.testing.assert_allclose(mine, values, rtol=1e-10, atol=1e-12)
    assert expected.keys() == module.gradients().keys()
    for key, values in module.gradients().items():
        np.testing.assert_allclose(values, expected[key], rtol=1e-9, atol=1e-12)


def test_square_loss_is_a_sum():
    outputs = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    targets = {"a": torch.tensor([0.0, 4.0]), "b": torch.tensor([0.0])}
    assert torch_network.square_loss(outputs, targets).item() == 1 + 4 + 9
