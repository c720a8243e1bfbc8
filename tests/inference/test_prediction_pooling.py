"""Networks with max-pooling predict what they would give slid over the image voxel by voxel."""

import itertools

import numpy as np
from prediction_cases import make_image, make_parameters, make_state, without_preprocessing

from znn_dask.data.volume import open_array
from znn_dask.inference import predict
from znn_dask.network import Network
from znn_dask.taskgraph import ForwardPass


def pooled() -> Network:
    """Two poolings of different windows; field of view (4, 20, 15)."""
    return (
        Network()
        .input()
        .conv("c1", 3, (1, 3, 2))
        .max_pool("p1", (2, 2, 2))
        .conv("c2", 4, (2, 3, 2), "tanh")
        .max_pool("p2", (1, 2, 2))
        .conv("output", 2, (1, 2, 2), "linear", node="output")
    )


def test_dense_prediction_of_a_pooled_network(tmp_path):
    network = pooled()
    parameters = make_parameters(network)
    fov = network.input_sizes((1, 1, 1))["input"]
    shape = tuple(f + n for f, n in zip(fov, (1, 4, 5), strict=True))
    image = make_image(shape)
    state = without_preprocessing(make_state(network, "square", "boundary", parameters))
    out = predict(state, image, tmp_path / "o", block=(1, 3, 6), progress=False)
    found = open_array(out)[:]
    assert found.shape == (2, 2, 5, 6)
    one = ForwardPass(network, parameters, (1, 1, 1))
    for z, y, x in itertools.product(*map(range, found.shape[1:])):
        window = image[z : z + fov[0], y : y + fov[1], x : x + fov[2], np.newaxis]
        expected = one({"input": window.astype(np.float32)})["output"][0, 0, 0]
        np.testing.assert_allclose(found[:, z, y, x], expected, rtol=1e-4, atol=1e-4)
