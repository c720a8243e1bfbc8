"""The meshes that a picture or a page shows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from distributed import Client

from znn_dask.data.metadata import VoxelSize
from znn_dask.neurons.errors import NeuronError
from znn_dask.neurons.mesh import Meshes, is_meshes, mesh
from znn_dask.neurons.refine import simplify
from znn_dask.neurons.triangles import Mesh
from znn_dask.report.colours import PALETTE


@dataclass(frozen=True)
class Shown:
    """Meshes with the voxels of each object, and what they were made of.

    voxel_size: (z, y, x) nm.
    """

    meshes: Sequence[Mesh]
    voxels: Sequence[int]
    name: str
    voxel_size: VoxelSize


def chosen_meshes(
    objects: Any,
    *,
    ids: Sequence[int] | None,
    largest: int | None,
    triangles: int,
    client: Client | None,
    voxel_size: VoxelSize | None,
    progress: bool,
) -> Shown:
    """The meshes of the chosen objects, together of about `triangles` triangles at most.

    objects: ids (z, y, x), or meshes, or their folder. Raises NeuronError, VolumeError.
    """
    if triangles < 1000:
        raise NeuronError(f"{triangles} triangles show nothing; allow 1000 or more")
    with _meshes(objects, ids, largest, client, voxel_size, progress) as made:
        chosen = (list(made) if ids is None else list(dict.fromkeys(ids)))[:largest]
        unknown = [i for i in chosen if i not in made]
        if unknown:
            raise NeuronError(f"{made.path} has no mesh of object {unknown[0]}; make it first")
        if len(chosen) > len(PALETTE):
            raise NeuronError(
                f"{len(chosen)} objects are more than there are colours; show {len(PALETTE)}"
            )
        meshes = [made[i] for i in chosen]
        voxels = [made.voxels(i) for i in chosen]
    factor = sum(len(m.faces) for m in meshes) / triangles
    name = objects.path.name if isinstance(objects, Meshes) else "objects"
    if isinstance(objects, str | Path):
        name = Path(objects).name
    return Shown([_simpler(m, factor) for m in meshes], voxels, name, made.voxel_size)


@contextmanager
def _meshes(
    objects: Any,
    ids: Sequence[int] | None,
    largest: int | None,
    client: Client | None,
    voxel_size: VoxelSize | None,
    progress: bool,
) -> Iterator[Meshes]:
    """The meshes that are given, or new ones in a folder for the time being."""
    if isinstance(objects, Meshes):
        yield objects
    elif is_meshes(objects):
        yield Meshes(objects)
    else:
        with TemporaryDirectory(prefix="znn-neurons-") as folder:
            yield mesh(
                objects,
                Path(folder) / "meshes",
                ids=ids,
                largest=largest,
                simplify=4,
                client=client,
                voxel_size=voxel_size,
                progress=progress,
            )


def _simpler(given: Mesh, factor: float) -> Mesh:
    if factor <= 1:
        return given
    vertices, faces = simplify(given.vertices, given.faces, factor)
    return Mesh(given.number, vertices.astype(np.float32), faces)
