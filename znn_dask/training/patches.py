"""From volumes to the patches that a network is trained on."""

from collections.abc import Mapping
from typing import Any

from znn_dask.data import PatchSampler
from znn_dask.data.targets import Kind
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network


def patch_sources(
    network: Network,
    target: Kind,
    output_size: Triple,
    volume: Any,
    validation: Any,
    seed: int,
    sampling: Mapping[str, Any],
) -> tuple[PatchSampler, PatchSampler | None]:
    """What to train on, and what to validate on if `validation` says so: never augmented.

    `sampling`: arguments of `PatchSampler`, and `validation_region`. Raises as `patch_source`.
    """
    shared = {name: value for name, value in sampling.items() if name != "validation_region"}
    train = patch_source(network, target, output_size, volume, seed, shared)
    if validation is None:
        return train, None
    held_out = shared | {"augment": False, "region": sampling.get("validation_region")}
    return train, patch_source(network, target, output_size, validation, seed + 1, held_out)


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
