"""Triangle meshes of objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from znn_dask.data.metadata import VoxelSize
from znn_dask.neurons.collecting import RECORD, Arrays, Choice, Collected, Collection
from znn_dask.neurons.errors import NeuronError, extra
from znn_dask.neurons.files import local_path
from znn_dask.neurons.mesh_files import (
    FORMATS,
    Format,
    mesh_file,
    read_mesh,
    write_info,
    write_mesh,
)
from znn_dask.neurons.objects import Objects, Triple, open_objects
from znn_dask.neurons.refine import simplify, smooth
from znn_dask.neurons.running import Runner
from znn_dask.neurons.surface import join, surfaces, unpack
from znn_dask.neurons.triangles import Mesh


@dataclass(frozen=True)
class Mesher:
    """Settings of meshes; see `mesh`."""

    simplify: float = 10.0
    smooth: int = 5
    format: Format = "precomputed"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise NeuronError(f"no mesh format {self.format!r}; there are {', '.join(FORMATS)}")
        if not self.simplify >= 1:
            raise NeuronError(
                f"simplify {self.simplify} is below 1; 1 keeps all triangles, 10 one of ten"
            )
        if self.smooth < 0:
            raise NeuronError(f"{self.smooth} rounds of smoothing are none; use 0 or more")
        if self.simplify > 1:
            extra("fast_simplification")
        if self.format != "precomputed":
            extra("trimesh")

    def pieces(self, objects: Objects, block: Triple, ids: Sequence[int]) -> Mapping[int, Arrays]:
        """The surfaces of objects in the cells of a block."""
        labels, lower = objects.cells(block)
        return {
            number: {"keys": keys, "faces": faces}
            for number, (keys, faces) in surfaces(labels, lower, ids)
        }

    def build(self, objects: Objects, number: int, pieces: Sequence[Arrays]) -> Mesh:
        """The mesh of an object of its surfaces in all blocks."""
        keys, faces = join([(piece["keys"], piece["faces"]) for piece in pieces])
        placed = unpack(keys) / 2 * np.array(objects.voxel_size) + np.array(objects.origin)
        vertices = placed[:, ::-1]
        if self.smooth:
            vertices = smooth(vertices, faces, self.smooth)
        vertices, faces = simplify(vertices, faces, self.simplify)
        return Mesh(number, vertices.astype(np.float32), faces)

    def make(self, objects: Objects, number: int, pieces: Sequence[Arrays], folder: Path) -> None:
        """Build the mesh of an object and write it into `folder`."""
        write_mesh(folder, self.build(objects, number, pieces), self.format)

    def file(self, number: int) -> str:
        """Name of the file that says that an object is finished."""
        return mesh_file(number, self.format)


class Meshes(Collected[Mesh]):
    """Meshes in a folder, by id of the object, the largest object first."""

    kind = "meshes"
    command = "mesh"

    def __getitem__(self, number: int) -> Mesh:
        self.voxels(number)
        return read_mesh(self.path, number, self.record["format"])


def is_meshes(source: Any) -> bool:
    """Whether `source` is the path of a folder that `mesh` wrote."""
    return isinstance(source, str | Path) and (Path(source) / RECORD).is_file()


def mesh(
    objects: Any,
    out: str | Path,
    *,
    ids: Sequence[int] | None = None,
    largest: int | None = None,
    minimum_size: int = 1,
    simplify: float = Mesher.simplify,
    smooth: int = Mesher.smooth,
    format: Format = "precomputed",
    client: Client | None = None,
    block: Sequence[int] | None = None,
    voxel_size: VoxelSize | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Meshes:
    """Make triangle meshes of objects; returns the folder of them as a mapping by id.

    Read block by block, joined without seams: a mesh has the same bits whatever the blocks are. All
    meshes are closed, also where the volume ends. Objects that the folder has already are not made
    again, so that an interrupted call may be repeated.

    Parameters
    ----------
    objects
        Ids (z, y, x), 0 is background: path such as "objects.zarr", Zarr or numpy array.
    out
        Folder for one mesh of each object, vertices in nm, axes x, y, z.
    ids, largest, minimum_size
        Which objects: those named, the so many largest, and only those of so many voxels.
    simplify
        Keep one of so many triangles; 1 keeps all.
    smooth
        Rounds of smoothing (Taubin), before; 0 leaves the steps of voxels.
    format
        "precomputed" (Neuroglancer), "ply", "obj" or "glb".
    client
        Dask client whose workers compute, on files that they all see; None: threads here.
    block
        Voxels (z, y, x) read at a time, default whole chunks of about 128^3.
    voxel_size
        (z, y, x) nm, default what the volume records.
    overwrite
        Replace meshes of other objects or settings in `out`.

    Raises
    ------
    NeuronError, VolumeError
        For what cannot be used, in one line.
    ImportError
        Where a package of the extra `neurons` is missing.
    """
    maker = Mesher(simplify, smooth, format)
    choice = Choice(ids, largest, minimum_size)
    volume = open_objects(objects, voxel_size=voxel_size, block=block)
    made = Collection(local_path(out), volume, maker)
    with Runner(client, progress=progress) as runner:
        made.begin(Meshes.kind, overwrite=overwrite)
        made.collect(choice, runner)
    if format == "precomputed":
        write_info(made.folder)
    return Meshes(made.folder)
