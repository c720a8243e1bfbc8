"""`mesh` and `view`: objects in 3D."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from znn_dask.cli.arguments import Switch, connect
from znn_dask.cli.errors import say

Ids = Annotated[
    tuple[int, ...] | None,
    Parameter(consume_multiple=True, negative=(), show_default=False, metavar="ID"),
]


def mesh(
    objects: str,
    meshes: Path,
    /,
    *,
    ids: Ids = None,
    largest: int | None = None,
    minimum_size: int = 1000,
    simplify: float = 10.0,
    smooth: int = 5,
    format: Literal["precomputed", "ply", "obj", "glb"] = "precomputed",
    scheduler: str | None = None,
    overwrite: Switch = False,
) -> None:
    """Make triangle meshes of objects, block by block and without seams.

    Meshes are closed, in nm, with axes x, y, z. Objects that are finished are not made again: run
    the same line after an interruption and only the missing ones are.

    Example:

        znn-dask mesh objects.zarr meshes --largest 100

    Parameters
    ----------
    objects
        The objects, such as objects.zarr: (z,y,x) ids.
    meshes
        Folder for the meshes, one file for each object.
    ids
        These objects, as --ids 17 42.
    largest
        The so many largest objects.
    minimum_size
        Only objects of so many voxels or more.
    simplify
        Keep one of so many triangles; 1 keeps all.
    smooth
        Rounds of smoothing; 0 leaves the steps of voxels.
    format
        precomputed: Neuroglancer's, and what `znn-dask view` opens fastest.
    scheduler
        Address of a Dask scheduler (tcp://..., tls://...), whose workers then compute; threads of
        this process when not given.
    overwrite
        Replace meshes of other objects or settings in MESHES.
    """
    from znn_dask.neurons import mesh as run

    client = None if scheduler is None else connect(scheduler)
    try:
        made = run(
            objects,
            meshes,
            ids=ids,
            largest=largest,
            minimum_size=minimum_size,
            simplify=simplify,
            smooth=smooth,
            format=format,
            client=client,
            overwrite=overwrite,
        )
    finally:
        if client is not None:
            client.close()
    say(f"{len(made)} meshes in {meshes}; next: znn-dask view {meshes} neurons.html")


def view(
    objects: str,
    page: Path,
    /,
    *,
    image: str | None = None,
    ids: Ids = None,
    largest: int = 20,
    triangles: int = 400_000,
    title: str | None = None,
    scheduler: str | None = None,
    overwrite: Switch = False,
) -> None:
    """Show objects in 3D on a page: one file, which opens by a double click, without network.

    Example:

        znn-dask view objects.zarr neurons.html --image volume.zarr/image

    Parameters
    ----------
    objects
        The objects, such as objects.zarr; or the folder of meshes that `mesh` made.
    page
        The .html file to write.
    image
        An image at the same place, to show slices of.
    ids
        These objects, as --ids 17 42.
    largest
        The so many largest objects.
    triangles
        Triangles of all objects together; more show finer detail and make a larger file.
    title
        Title of the page.
    scheduler
        Address of a Dask scheduler, whose workers then make the meshes.
    overwrite
        Replace PAGE.
    """
    from znn_dask.neurons import view as run

    if page.exists() and not overwrite:
        raise ValueError(f"{page} exists already; choose another name or give --overwrite")
    client = None if scheduler is None else connect(scheduler)
    try:
        shown = run(
            objects,
            image,
            ids=ids,
            largest=largest,
            triangles=triangles,
            title=title,
            client=client,
        )
    finally:
        if client is not None:
            client.close()
    shown.save(page)
    say(f"neurons in {page} ({page.stat().st_size / 1e6:.1f} MB); open it in a browser")
