"""The original's float64 results: outputs, gradients, and parameters after three updates."""

from pathlib import Path

import numpy as np
import pytest
from plain_pass import PlainPass

from znn_dask.kernels.layout import map_from_znn
from znn_dask.network.znn_text import read_znn


def _part(arrays: np.lib.npyio.NpzFile, part: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(part): arrays[k] for k in arrays.files if k.startswith(part)}


@pytest.mark.parametrize("name", ["conv3d", "maxfilter", "dag"])
def test_kernels_give_the_originals_results(shared: Path, name: str) -> None:
    net = read_znn(shared / "znn/golden" / f"{name}.znn")
    with np.load(shared / "znn/golden" / f"{name}.npz") as arrays:
        initial, gradient, after = (_part(arrays, p) for p in ("init/", "gradient/", "after3/"))
        inputs, g, output = (
            {node: map_from_znn(array) for node, array in _part(arrays, p).items()}
            for p in ("input/", "output_gradient/", "output/")
        )
    plain = PlainPass(net, initial)
    for update in range(3):
        maps = plain.forward(inputs)
        found = plain.backward(g)
        if update == 0:
            np.testing.assert_allclose(maps["output"], output["output"], rtol=0, atol=1e-13)
            for parameter, expected in gradient.items():
                np.testing.assert_allclose(found[parameter], expected, rtol=1e-11, atol=1e-12)
        plain.update(found, eta=0.05, momentum=0.9, decay=0.001)
    for parameter in initial:
        np.testing.assert_allclose(plain.parameter(parameter), after[parameter], rtol=0, atol=1e-14)
