"""States of Neuroglancer, which show objects with their image, meshes and skeletons."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from znn_dask.data.metadata import VoxelSize
from znn_dask.neurons.files import write_json
from znn_dask.neurons.mesh import Meshes, is_meshes
from znn_dask.neurons.objects import open_objects


def neuroglancer_state(
    objects: str,
    url: str,
    *,
    image: str | None = None,
    meshes: str | None = None,
    skeletons: str | None = None,
    ids: Sequence[int] = (),
    voxel_size: VoxelSize | None = None,
) -> dict[str, Any]:
    """What Neuroglancer's "edit JSON state" takes, and its links carry after `#!`.

    objects, image: OME-Zarr, paths below the folder that a web server shows at `url` (it has to
        allow other origins); meshes, skeletons: folders in format "precomputed", likewise
    ids: the objects that are shown at first
    voxel_size: (z, y, x) nm, default what the volume records

    Raises NeuronError or VolumeError where the objects cannot be opened.
    """
    opened = open_objects(objects, voxel_size=voxel_size)
    size = opened.voxel_size[::-1]
    base = url.rstrip("/")
    begin = np.array(opened.origin) / np.array(opened.voxel_size)
    middle = (begin + np.array(opened.shape) / 2)[::-1].tolist()
    sources: list[Any] = [f"zarr://{base}/{objects}"]
    sources += [
        {"url": f"precomputed://{base}/{folder}", "transform": _shift(size)}
        for folder in (meshes, skeletons)
        if folder is not None
    ]
    layers: list[dict[str, Any]] = []
    if image is not None:
        layers.append({"type": "image", "name": "image", "source": f"zarr://{base}/{image}"})
    layers.append(
        {
            "type": "segmentation",
            "name": "objects",
            "source": sources,
            "segments": [str(number) for number in ids],
        }
    )
    return {
        "dimensions": {a: [s / 1e9, "m"] for a, s in zip("xyz", size, strict=True)},
        "position": middle,
        "layers": layers,
        "layout": "4panel",
    }


def _shift(size: tuple[float, ...]) -> dict[str, Any]:
    """Half a voxel back: there, OME-Zarr begins at the middle of its first voxel."""
    rows = [[float(a == b) for b in range(3)] + [-size[a] / 2] for a in range(3)]
    return {"matrix": rows, "outputDimensions": {axis: [1e-9, "m"] for axis in "xyz"}}


def write_state(path: Path, shown: str, url: str, *, image: str | None, ids: Sequence[int]) -> None:
    """Write the state that shows objects, or a folder of meshes with the objects it was made of."""
    objects, meshes = shown, None
    if is_meshes(shown):
        record = Meshes(shown).record
        objects = os.path.relpath(record["source"])
        meshes = shown if record["format"] == "precomputed" else None
    write_json(path, neuroglancer_state(objects, url, image=image, meshes=meshes, ids=ids))
