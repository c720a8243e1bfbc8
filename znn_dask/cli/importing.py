"""`import`: foreign volumes into Zarr."""

from pathlib import Path

from znn_dask.cli.arguments import Lengths, Switch
from znn_dask.cli.errors import say


def import_(
    source: str,
    volume: Path,
    /,
    *,
    name: str = "image",
    voxel_size: Lengths | None = None,
    overwrite: Switch = False,
) -> None:
    """Import an image, labels or a mask into a Zarr volume, which is made if absent.

    Reads TIFF stacks, folders of slices, HDF5 datasets (file.h5:/dataset) and Zarr arrays
    slab by slab, so that volumes may be larger than memory. An interrupted import leaves the volume
    as it was.

    Example:

        znn-dask import truth.h5:/main volume.zarr --name labels --voxel-size 30,6,6

    Parameters
    ----------
    source
        What to import.
    volume
        The volume, a folder such as volume.zarr.
    name
        Name in the volume. Names that begin with "labels" hold ids, "mask" becomes 0 and 1.
    voxel_size
        Z,Y,X in nm; what the source or the volume says when not given.
    overwrite
        Replace an item of that name.
    """
    from znn_dask.data.importing import import_image

    array = import_image(source, volume, name, voxel_size, overwrite=overwrite)
    shape = ",".join(map(str, array.shape))
    say(f"{volume}/{name}: {shape} voxels, {array.dtype}")
