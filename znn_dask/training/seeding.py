"""Fine-tuning: start a training from the parameters of another one, matched by layer name."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from znn_dask.network import Network
from znn_dask.training.state import CheckpointError


@dataclass(frozen=True)
class SeedReport:
    """What happened to each parameter, by name.

    ``skipped``: its layer says ``seeding 0``; ``absent``: the source has no such layer; ``unused``:
    only the source has it.
    """

    copied: tuple[str, ...]
    skipped: tuple[str, ...]
    absent: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        """One line: how many were copied, and by name all that were not."""
        parts = [f"copied {len(self.copied)} parameters"]
        for label, names in (
            ("skipped (seeding 0)", self.skipped),
            ("not in the source", self.absent),
            ("unused", self.unused),
        ):
            if names:
                parts.append(f"{label}: {', '.join(names)}")
        return "; ".join(parts)


def seed_parameters(
    network: Network, parameters: Mapping[str, np.ndarray], source: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], SeedReport]:
    """Parameters with those of ``source`` copied in where layer name and shape agree.

    Like ZNN, a layer of ``network`` with the option ``seeding 0`` keeps its own.

    Args:
        network: the network to train.
        parameters: its freshly initialised parameters, ``"edge.filters"`` (in,out,kz,ky,kx) and
            ``"node.biases"`` (n,); not changed.
        source: those of the other training; converted to the dtype of ``parameters``.

    Returns:
        New parameters, in the order of ``parameters``, and the report.

    Raises:
        CheckpointError: shapes differ, or no layer has a name that is in the source.
    """
    options = [(group.name, group.options) for group in network.nodes]
    options += [(group.name, group.options) for group in network.edges]
    unseeded = {name for name, pairs in options if dict(pairs).get("seeding") == "0"}
    result: dict[str, np.ndarray] = {}
    copied, skipped, absent = [], [], []
    for name, own in parameters.items():
        result[name] = own
        if name.rpartition(".")[0] in unseeded:
            skipped.append(name)
        elif name not in source:
            absent.append(name)
        elif source[name].shape != own.shape:
            raise CheckpointError(
                f"seeding: {name} has shape {own.shape} in the network but {source[name].shape} in "
                'the source; rename the layer, or give it the option "seeding 0"'
            )
        else:
            copied.append(name)
            result[name] = source[name].astype(own.dtype)
    if absent and not copied:
        raise CheckpointError(
            f"seeding: no layer of the network is in the source: the network has "
            f"{', '.join(parameters)}; the source has {', '.join(source) or 'nothing'}"
        )
    unused = tuple(name for name in source if name not in parameters)
    return result, SeedReport(tuple(copied), tuple(skipped), tuple(absent), unused)
