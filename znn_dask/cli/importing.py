"""`import`: foreign volumes into Zarr; `pyramid`: their lower resolutions."""

from typing import Literal

from znn_dask.cli.arguments import Lengths, Switch, connect
from znn_dask.cli.errors import say


def import_(
    source: str,
    volume: str,
    /,
    *,
    name: str = "image",
    voxel_size: Lengths | None = None,
    axes: str | None = None,
    no_pyramid: Switch = False,
    overwrite: Switch = False,
) -> None:
    """Import an image, labels or a mask into a Zarr volume, which is made if absent.

    Reads TIFF stacks, folders of slices, HDF5 datasets (file.h5:/dataset), and Zarr, N5 and
    Neuroglancer precomputed volumes in folders or behind URLs, a few dozen megabytes at a time, so
    that volumes may be larger than memory. An item appears when it is complete; run the same line
    again after an interruption to go on.

    Example:

        znn-dask import truth.h5:/main volume.zarr --name labels --voxel-size 30,6,6

    Parameters
    ----------
    source
        What to import. precomputed://, n5:// or zarr:// before a path or URL (http, gs, s3) says
        what it is.
    volume
        The volume, a folder such as volume.zarr or a URL such as s3://bucket/volume.zarr.
    name
        Name in the volume. Names that begin with "labels" hold ids, "mask" becomes 0 and 1.
    voxel_size
        Z,Y,X in nm; what the source or the volume says when not given.
    axes
        Axes of the source in its own order, such as xyz or zcyx, where it does not say or is wrong.
    no_pyramid
        Do not build lower resolutions, which viewers need of large volumes.
    overwrite
        Replace an item of that name.
    """
    from znn_dask.data.importing import import_image

    array = import_image(
        source,
        volume,
        name,
        voxel_size,
        axes=axes,
        pyramid=not no_pyramid,
        overwrite=overwrite,
    )
    shape = ",".join(map(str, array.shape))
    say(f"{volume}/{name}: {shape} voxels, {array.dtype}")


def pyramid(
    image: str,
    /,
    *,
    reduction: Literal["mean", "mode"] | None = None,
    scheduler: str | None = None,
    overwrite: Switch = False,
) -> None:
    """Build the lower resolutions of an image, map or objects, which viewers need of large ones.

    Each is halved along the axes with the shortest voxels, until it is 64 voxels long. Run the same
    line again after an interruption to go on. `import`, `predict` and `segment` do so themselves.

    Example:

        znn-dask pyramid objects.zarr

    Parameters
    ----------
    image
        The image, such as volume.zarr/image, map.zarr or objects.zarr.
    reduction
        mean: of the voxels that become one; mode: the most frequent of them, for labels. Chosen by
        what the image holds when not given.
    scheduler
        Address of a Dask scheduler (tcp://..., tls://...), whose workers then do it; threads of
        this process when not given.
    overwrite
        Build them anew, because the image has changed.
    """
    from contextlib import ExitStack

    from znn_dask.data.pyramid import build_pyramid

    with ExitStack() as stack:
        client = None if scheduler is None else stack.enter_context(connect(scheduler))
        count = build_pyramid(image, reduction, client=client, overwrite=overwrite, progress=True)
    say(f"{image}: {count} lower resolutions")
