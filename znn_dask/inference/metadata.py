"""OME-Zarr metadata of a prediction."""

from collections.abc import Sequence
from typing import Any

from znn_dask.data.metadata import VoxelSize, multiscales


def prediction_attributes(
    name: str, voxel_size: VoxelSize, translation: Sequence[float], scale: float
) -> dict[str, Any]:
    """Group attributes: axes c,z,y,x, voxel size and position (both z,y,x in nm), stored scale.

    A stored value v means probability `v * scale`.
    """
    attributes = multiscales(name, "czyx", voxel_size)
    dataset = attributes["ome"]["multiscales"][0]["datasets"][0]
    dataset["coordinateTransformations"].append(
        {"type": "translation", "translation": [0.0, *translation]}
    )
    attributes["znn_dask"] = {"scale": scale}
    return attributes
