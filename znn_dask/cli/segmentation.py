"""`segment`: a map to objects."""

from pathlib import Path
from typing import Literal

from znn_dask.cli.arguments import Region, Switch
from znn_dask.cli.errors import say


def segment(
    prediction: str,
    objects: Path,
    /,
    *,
    kind: Literal["auto", "boundary", "affinity"] = "auto",
    threshold: float | None = None,
    seed_threshold: float = 0.5,
    minimum_size: int = 50,
    in_plane: Switch = False,
    region: Region = None,
    threads: int | None = None,
    overwrite: Switch = False,
) -> None:
    """Segment a boundary or affinity map into objects: watershed, then merging of fragments.

    Example:

        znn-dask segment map.zarr objects.zarr --threshold 0.4

    Parameters
    ----------
    prediction
        The map that `predict` wrote, or another: (c,z,y,x) or (z,y,x).
    objects
        Where the objects go, a new folder such as objects.zarr: (z,y,x) ids from 1.
    kind
        What the map holds; auto: affinities when it has three channels.
    threshold
        Fragments whose contact has a mean boundary probability below it are merged. Lower gives
        smaller objects, higher larger ones.
    seed_threshold
        Voxels with a boundary probability below it can seed a fragment.
    minimum_size
        Objects of fewer voxels join a neighbour.
    in_plane
        Every slice by itself (2D).
    region
        Part of the map, as 0:100,:,190:250 (z,y,x).
    threads
        Threads; all cores when not given.
    overwrite
        Replace OBJECTS.
    """
    from znn_dask.segmentation import segment as run

    place = run(
        prediction,
        objects,
        kind=kind,
        threshold=threshold,
        seed_threshold=seed_threshold,
        minimum_size=minimum_size,
        in_plane=in_plane,
        region=region,
        threads=threads,
        overwrite=overwrite,
    )
    say(f"objects in {place}; next: znn-dask evaluate {place} volume.zarr/labels")
