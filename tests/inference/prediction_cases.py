"""Networks, checkpoints and dense results to compare with."""

from dataclasses import replace

import numpy as np
import prediction_reference as reference

from znn_dask.network import Network, format_znn
from znn_dask.training.state import CheckpointState


def boundary_network() -> Network:
    """Field of view (3, 9, 9), with a max-filter and dilation; two classes before a softmax."""
    return (
        Network()
        .input()
        .conv("c1", 3, (1, 3, 3))
        .max_filter("m1", (1, 3, 3), (1, 2, 2))
        .conv("c2", 3, (3, 3, 3), "tanh")
        .conv("output", 2, (1, 1, 1), "linear", node="output")
    )


def affinity_network() -> Network:
    """Field of view (3, 5, 5), three affinities."""
    return (
        Network()
        .input()
        .conv("c1", 3, (3, 3, 3), "tanh")
        .conv("output", 3, (1, 3, 3), "forward_logistics", node="output")
    )


def make_parameters(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) * 0.5).astype(np.float32)
        for name, shape in network.parameter_shapes().items()
    }


def make_state(
    network: Network, loss: str, target: str, parameters: dict[str, np.ndarray] | None = None
) -> CheckpointState:
    """A checkpoint of a network with these parameters, or else random ones."""
    parameters = make_parameters(network) if parameters is None else parameters
    return CheckpointState(
        network=format_znn(network),
        parameters=parameters,
        momenta={name: np.zeros_like(p) for name, p in parameters.items()},
        step=1,
        optimizer={},
        seed=0,
        loss=loss,
        target=target,
        output_size=(1, 8, 8),
        preprocessing={"rule": "standard2D"},
    )


def boundary_state(seed: int = 0) -> CheckpointState:
    network = boundary_network()
    return make_state(network, "softmax", "boundary", make_parameters(network, seed))


def affinity_state() -> CheckpointState:
    return make_state(affinity_network(), "binomial", "affinity")


def without_preprocessing(state: CheckpointState) -> CheckpointState:
    return replace(state, preprocessing={"rule": "none"})


def make_image(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def standardised(image: np.ndarray) -> np.ndarray:
    """standard2D of (z,y,x), float32."""
    mean = image.mean(axis=(1, 2), keepdims=True)
    return ((image - mean) / image.std(axis=(1, 2), keepdims=True)).astype(np.float32)


def dense(network: Network, state: CheckpointState, image: np.ndarray) -> np.ndarray:
    """(c,z,y,x) float64: one pass over the whole preprocessed image (z,y,x), softmaxed if due."""
    inputs = {node.name: image[..., np.newaxis].astype(float) for node in network.inputs}
    (y,) = reference.forward(network, state.parameters, inputs).values()
    if "softmax" in state.loss:
        e = np.exp(y - y.max(axis=-1, keepdims=True))
        y = e / e.sum(axis=-1, keepdims=True)
    return np.moveaxis(y, -1, 0)
