"""`mesh`, `skeletonize`, `view` and `picture`: objects in 3D."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from znn_dask.cli.arguments import Switch, connect
from znn_dask.cli.errors import say

if TYPE_CHECKING:
    from distributed import Client

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

    with _connected(scheduler) as client:
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
    say(f"{len(made)} meshes in {meshes}; next: znn-dask view {meshes} neurons.html")


def skeletonize(
    objects: str,
    skeletons: Path,
    /,
    *,
    ids: Ids = None,
    largest: int | None = None,
    minimum_size: int = 1000,
    resolution: float | None = None,
    shortest: float = 200.0,
    format: Literal["swc", "precomputed"] = "swc",
    scheduler: str | None = None,
    overwrite: Switch = False,
) -> None:
    """Make the centre lines of objects, block by block, and list their lengths.

    Objects that are finished are not made again: run the same line after an interruption and only
    the missing ones are.

    Example:

        znn-dask skeletonize objects.zarr skeletons --largest 100

    Parameters
    ----------
    objects
        The objects, such as objects.zarr: (z,y,x) ids.
    skeletons
        Folder for the skeletons, one file for each object.
    ids
        These objects, as --ids 17 42.
    largest
        The so many largest objects.
    minimum_size
        Only objects of so many voxels or more.
    resolution
        Voxels are taken together to about this size in nm; twice the longest edge of a voxel when
        not given.
    shortest
        Branches that reach less than so many nm (and half a radius) out of the others are left out.
    format
        swc, in µm; or precomputed, Neuroglancer's.
    scheduler
        Address of a Dask scheduler (tcp://..., tls://...), whose workers then compute; threads of
        this process when not given.
    overwrite
        Replace skeletons of other objects or settings in SKELETONS.
    """
    from znn_dask.neurons import skeletonize as run

    with _connected(scheduler) as client:
        made = run(
            objects,
            skeletons,
            ids=ids,
            largest=largest,
            minimum_size=minimum_size,
            resolution=resolution,
            shortest=shortest,
            format=format,
            client=client,
            overwrite=overwrite,
        )
    print("object voxels length_um branchings ends")
    for number, skeleton in made.items():
        print(
            f"{number} {made.voxels(number)} {skeleton.length:.2f} {skeleton.branchings} "
            f"{skeleton.ends}"
        )
    say(f"{len(made)} skeletons in {skeletons}")


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
    neuroglancer: str | None = None,
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
    neuroglancer
        Write a state of Neuroglancer too, beside PAGE, with .json for .html. This is the address
        at which a web server shows the present folder, such as http://127.0.0.1:9000.
    scheduler
        Address of a Dask scheduler, whose workers then make the meshes.
    overwrite
        Replace PAGE.
    """
    from znn_dask.neurons import view as run

    if page.exists() and not overwrite:
        raise ValueError(f"{page} exists already; choose another name or give --overwrite")
    with _connected(scheduler) as client:
        shown = run(
            objects,
            image,
            ids=ids,
            largest=largest,
            triangles=triangles,
            title=title,
            client=client,
        )
    shown.save(page)
    if neuroglancer is not None:
        from znn_dask.neurons.neuroglancer import write_state

        state = page.with_suffix(".json")
        write_state(state, objects, neuroglancer, image=image, ids=shown.ids)
        say(f"state of Neuroglancer in {state}")
    say(f"neurons in {page} ({page.stat().st_size / 1e6:.1f} MB); open it in a browser")


def picture(
    objects: str,
    picture: Path,
    /,
    *,
    ids: Ids = None,
    largest: int = 20,
    size: int = 1600,
    background: Literal["white", "dark"] = "white",
    azimuth: float = 35.0,
    elevation: float = 25.0,
    scheduler: str | None = None,
    overwrite: Switch = False,
) -> None:
    """Draw the largest objects in 3D, with a scale bar; needs no graphics card and no display.

    Example:

        znn-dask picture objects.zarr neurons.png --largest 12

    Parameters
    ----------
    objects
        The objects, such as objects.zarr; or the folder of meshes that `mesh` made.
    picture
        The .png file to write.
    ids
        These objects, as --ids 17 42.
    largest
        The so many largest objects.
    size
        Pixels of the longer side.
    background
        white, or dark.
    azimuth
        Degrees by which the eye goes to the right; with 0 and elevation 0 it looks along z.
    elevation
        Degrees by which it goes up.
    scheduler
        Address of a Dask scheduler, whose workers then make the meshes.
    overwrite
        Replace PICTURE.
    """
    from znn_dask.neurons import picture as run

    if picture.exists() and not overwrite:
        raise ValueError(f"{picture} exists already; choose another name or give --overwrite")
    with _connected(scheduler) as client:
        drawn = run(
            objects,
            ids=ids,
            largest=largest,
            size=size,
            background=background,
            azimuth=azimuth,
            elevation=elevation,
            client=client,
        )
    drawn.save(picture)
    say(f"neurons in {picture}")


@contextmanager
def _connected(scheduler: str | None) -> "Iterator[Client | None]":
    """A client of the scheduler, if one is named."""
    client = None if scheduler is None else connect(scheduler)
    try:
        yield client
    finally:
        if client is not None:
            client.close()
