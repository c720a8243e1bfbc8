"""Skeletons of the objects of a volume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from distributed import Client

from znn_dask.data.metadata import VoxelSize
from znn_dask.neurons.collecting import Arrays, Choice, Collected, Collection
from znn_dask.neurons.errors import NeuronError
from znn_dask.neurons.files import local_path
from znn_dask.neurons.objects import Objects, Triple, numbered, open_objects
from znn_dask.neurons.running import Runner
from znn_dask.neurons.skeleton import Skeleton, centre_lines
from znn_dask.neurons.skeleton_files import (
    FORMATS,
    Format,
    read_skeleton,
    skeleton_file,
    write_info,
    write_skeleton,
)
from znn_dask.neurons.surface import pack, unpack

_MOST = 4_000_000
"""Reduced voxels of an object, of about 600 bytes each while its skeleton is made."""


@dataclass(frozen=True)
class Skeletonizer:
    """Settings of skeletons; see `skeletonize`."""

    resolution: float
    scale: float = 1.5
    shortest: float = 200.0
    format: Format = "swc"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise NeuronError(f"no skeleton format {self.format!r}; there are {', '.join(FORMATS)}")
        for name in ("resolution", "scale", "shortest"):
            if not getattr(self, name) >= 0:
                raise NeuronError(f"{name} {getattr(self, name)} is negative; use 0 or more")

    def _steps(self, objects: Objects) -> np.ndarray:
        """Voxels (z, y, x) that are taken as one."""
        edges = np.array(objects.voxel_size)
        return np.maximum(1, np.rint(self.resolution / edges)).astype(np.int64)

    def pieces(self, objects: Objects, block: Triple, ids: Sequence[int]) -> Mapping[int, Arrays]:
        """The reduced voxels of objects in a block: those with any voxel of the object."""
        start, stop = objects.core(block)
        wanted, numbers = numbered(objects.read(start, stop), ids)
        places = np.nonzero(numbers)
        keys = pack((np.stack(places, axis=1) + np.array(start)) // self._steps(objects))
        owners = numbers[places]
        order = np.lexsort((keys, owners))
        keys, owners = keys[order], owners[order]
        found, first = np.unique(owners, return_index=True)
        return {
            int(wanted[owner - 1]): {"voxels": np.unique(part)}
            for owner, part in zip(found, np.split(keys, first[1:]), strict=True)
        }

    def make(self, objects: Objects, number: int, pieces: Sequence[Arrays], folder: Path) -> None:
        """The skeleton of an object of its voxels in all blocks, into `folder`."""
        voxels = unpack(np.unique(np.concatenate([piece["voxels"] for piece in pieces])))
        steps = self._steps(objects)
        spacing = np.array(objects.voxel_size) * steps
        if len(voxels) > _MOST:
            raise NeuronError(
                f"object {number} has {len(voxels)} voxels of {spacing.tolist()} nm, more than "
                f"{_MOST}; give a coarser resolution than {self.resolution:g} nm"
            )
        positions, radii, parents = centre_lines(
            voxels, spacing, scale=self.scale, shortest=self.shortest
        )
        positions += np.array(objects.origin)
        made = Skeleton(
            number, positions[:, ::-1].astype(np.float32), radii.astype(np.float32), parents
        )
        write_skeleton(folder, made, self.format)

    def file(self, number: int) -> str:
        """Name of the file that says that an object is finished."""
        return skeleton_file(number, self.format)


class Skeletons(Collected[Skeleton]):
    """Skeletons in a folder, by id of the object, the largest object first."""

    kind = "skeletons"
    command = "skeletonize"

    def __getitem__(self, number: int) -> Skeleton:
        self.voxels(number)
        return read_skeleton(self.path, number, self.record["format"])


def skeletonize(
    objects: Any,
    out: str | Path,
    *,
    ids: Sequence[int] | None = None,
    largest: int | None = None,
    minimum_size: int = 1,
    resolution: float | None = None,
    scale: float = Skeletonizer.scale,
    shortest: float = Skeletonizer.shortest,
    format: Format = "swc",
    client: Client | None = None,
    block: Sequence[int] | None = None,
    voxel_size: VoxelSize | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Skeletons:
    """Make the centre lines of objects (TEASAR); returns the folder of them as a mapping by id.

    Read block by block, and the same whatever the blocks are. Objects that the folder has already
    are not made again.

    Parameters
    ----------
    objects
        Ids (z, y, x), 0 is background: path such as "objects.zarr", Zarr or numpy array.
    out
        Folder for one file of each object; SWC is in µm, precomputed in nm; axes x, y, z.
    ids, largest, minimum_size
        Which objects: those named, the so many largest, and only those of so many voxels.
    resolution
        In nm; voxels are taken together to about this size, default twice the longest edge.
    scale, shortest
        Branches that do not reach out of so many radii, and so many nm, are left out.
    format
        "swc" or "precomputed" (Neuroglancer).
    client
        Dask client whose workers compute, on files that they all see; None: threads here.
    block
        Voxels (z, y, x) read at a time, default whole chunks of about 128^3.
    voxel_size
        (z, y, x) nm, default what the volume records.
    overwrite
        Replace skeletons of other objects or settings in `out`.

    Raises
    ------
    NeuronError, VolumeError
        For what cannot be used, in one line.
    """
    volume = open_objects(objects, voxel_size=voxel_size, block=block)
    if resolution is None:
        resolution = 2 * max(volume.voxel_size)
    maker = Skeletonizer(resolution, scale, shortest, format)
    made = Collection(local_path(out), volume, maker)
    choice = Choice(ids, largest, minimum_size)
    with Runner(client, progress=progress) as runner:
        made.begin(Skeletons.kind, overwrite=overwrite)
        made.collect(choice, runner)
    if format == "precomputed":
        write_info(made.folder)
    return Skeletons(made.folder)
