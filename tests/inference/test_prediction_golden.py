"""The original ZNN's whole-volume forward pass, mirrored border, reproduced."""

from pathlib import Path

import h5py
import numpy as np
from prediction_cases import make_state

from znn_dask.data.volume import open_array
from znn_dask.inference import predict
from znn_dask.network import read_znn


def test_forward_pass_of_the_original(tmp_path: Path, shared: Path) -> None:
    """Field of view (4, 9, 9): even along z, so this also fixes which side gets more padding."""
    folder = shared / "znn" / "golden_training"
    network = read_znn(folder / "aff3d.znn")
    with h5py.File(folder / "affinity/net_current.h5") as file:
        layers = file["processing/znn/train/network"]
        parameters = {}
        for name in network.parameter_shapes():
            layer, kind = name.split(".")
            array = layers[layer][kind][()]
            if kind == "filters":  # its bytes are x-slowest, whatever the shape says
                n, m, z, y, x = array.shape
                array = array.reshape(n, m, x, y, z).transpose(0, 1, 4, 3, 2)
            parameters[name] = np.ascontiguousarray(array, np.float32)
    with h5py.File(folder / "stack1-image.h5") as file:
        image = file["main"][()]
    with h5py.File(folder / "affinity/out_sample1_output.h5") as file:
        expected = file["main"][()]
    state = make_state(network, "binomial", "affinity", parameters)
    out = predict(state, image, tmp_path / "o", border="mirror", block=(5, 30, 42), progress=False)
    np.testing.assert_allclose(open_array(out)[:], expected, atol=2e-6)
