"""Compare a block-wise prediction with one dense pass over the whole volume.

python dense_check.py CHECKPOINTS volume.zarr/image map.zarr
"""

import argparse

import numpy as np

import znn_dask as znn
from znn_dask.data import Preprocessing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("image")
    parser.add_argument("map", help="written by znn-dask predict with --border valid")
    arguments = parser.parse_args()

    state = znn.load_checkpoint(arguments.checkpoint)
    network = znn.parse_znn(state.network)
    image = np.asarray(znn.open_array(arguments.image))
    rule = Preprocessing.from_dict(state.preprocessing).fit(image)
    given = rule.apply(image, slice(0, len(image)))[..., None]
    size = network.output_size(image.shape)
    forward = znn.ForwardPass(network, state.parameters, size)
    dense = forward({network.inputs[0].name: given})[network.outputs[0].name]
    if state.loss == "softmax":
        dense -= dense.max(axis=-1, keepdims=True)
        np.exp(dense, out=dense)
        dense /= dense.sum(axis=-1, keepdims=True)

    blockwise = znn.open_array(arguments.map)
    worst = max(
        float(np.abs(np.asarray(blockwise[:, z]) - np.moveaxis(dense[z], -1, 0)).max())
        for z in range(size[0])
    )
    print(f"{size} output voxels: largest difference {worst:.2e}")


if __name__ == "__main__":
    main()
