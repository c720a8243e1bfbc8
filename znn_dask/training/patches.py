"""From volumes to the patches that a network is trained on."""

from collections.abc import Mapping
from typing import Any

from znn_dask.data import PatchSampler
from znn_dask.data.targets import Kind
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network


def patch_source(
    network: Network,
    target: Kind,
    output_size: Triple,
    volume: Any,
    seed: int,
    sampling: Mapping[str, Any],
) -> PatchSampler:
    """A sampler of patches that fit the network; `volume` itself if it is one already.

    Raises
    ------
    ValueError
        If an image has other channels than its input node group, or no patch fits the volumes.
    """
    if isinstance(volume, PatchSampler):
        return volume
    outputs = {node.name: output_size for node in network.outputs}
    sampler = PatchSampler(
        volume,
        network.input_sizes(output_size),
        outputs,
        target,
        seed=seed,
        **sampling,
    )
    for node in network.inputs:
        found = sampler.input_channels[node.name]
        if found != node.size:
            raise ValueError(f"input {node.name!r} has {node.size} channels, its image has {found}")
    return sampler
