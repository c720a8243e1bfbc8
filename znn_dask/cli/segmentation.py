"""`segment`: a map to objects."""

from typing import Literal

from znn_dask.cli.arguments import Region, Size, Switch, connect
from znn_dask.cli.errors import say


def segment(
    prediction: str,
    objects: str,
    /,
    *,
    scheduler: str | None = None,
    kind: Literal["auto", "boundary", "affinity"] = "auto",
    threshold: float | None = None,
    seed_threshold: float = 0.5,
    minimum_size: int = 50,
    in_plane: Switch = False,
    region: Region = None,
    block: Size | None = None,
    memory_limit: str | None = None,
    threads: int | None = None,
    overwrite: Switch = False,
) -> None:
    """Segment a boundary or affinity map into objects: watershed, then merging of fragments.

    Works block by block, so the map may be larger than memory; the objects are the same whatever
    the blocks, threads or workers. Finished blocks are recorded: run the same line again after an
    interruption and it goes on from there, to the same bits.

    Example:

        znn-dask segment map.zarr objects.zarr --threshold 0.4

        znn-dask segment s3://lab/map.zarr s3://lab/objects.zarr --scheduler tcp://10.0.0.1:8786

    Parameters
    ----------
    prediction
        The map that `predict` wrote, or another: (c,z,y,x) or (z,y,x).
    objects
        Where the objects go, a new folder such as objects.zarr: (z,y,x) ids from 1. It can be
        opened once it is complete.
    scheduler
        Address of a Dask scheduler (tcp://..., tls://...), whose workers then compute; threads of
        this process when not given. The graph of all fragments is merged in this process.
    kind
        What the map holds; auto: affinities when it has three channels.
    threshold
        Fragments whose contact has a mean boundary probability below it are merged. Lower gives
        smaller objects, higher larger ones.
    seed_threshold
        Voxels with a boundary probability below it are inside cells; others belong to no centre.
    minimum_size
        Objects of fewer voxels join a neighbour.
    in_plane
        Every slice by itself (2D).
    region
        Part of the map, as 0:100,:,190:250 (z,y,x).
    block
        Voxels that one task works on, multiples of 64; chosen to fit the memory when not given.
    memory_limit
        What blocks under way may take in each process, such as 4GB.
    threads
        Threads of this process; all cores when not given.
    overwrite
        Replace OBJECTS when they are complete or were begun with other settings.
    """
    from znn_dask.segmentation import segment as run

    client = None if scheduler is None else connect(scheduler)
    try:
        place = run(
            prediction,
            objects,
            client=client,
            kind=kind,
            threshold=threshold,
            seed_threshold=seed_threshold,
            minimum_size=minimum_size,
            in_plane=in_plane,
            region=region,
            block=block,
            memory_limit=memory_limit,
            threads=threads,
            overwrite=overwrite,
        )
    finally:
        if client is not None:
            client.close()
    say(f"objects in {place}; next: znn-dask evaluate {objects} volume.zarr/labels")
