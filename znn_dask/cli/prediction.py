"""`predict`: a trained network over a whole volume."""

from typing import Literal

from znn_dask.cli.arguments import Region, Switch, connect
from znn_dask.cli.errors import say


def predict(
    checkpoint: str,
    image: str,
    out: str,
    /,
    *,
    scheduler: str | None = None,
    border: Literal["valid", "mirror"] = "valid",
    augment: Literal[1, 8, 16] = 1,
    dtype: Literal["float32", "float64", "uint8"] = "float32",
    region: Region = None,
    output: str | None = None,
    memory_limit: str | None = None,
    no_pyramid: Switch = False,
    overwrite: Switch = False,
    plan: Switch = False,
) -> None:
    """Run a trained network over an image, block by block, and write its map as OME-Zarr.

    Finished blocks are recorded: run the same line again after an interruption and only the missing
    ones are computed, to the same bits.

    Example:

        znn-dask predict checkpoints volume.zarr/image map.zarr --border mirror --augment 8

    Parameters
    ----------
    checkpoint
        A checkpoint, or a folder of them (its latest).
    image
        The image, such as volume.zarr/image.
    out
        Where the map goes, a new folder such as map.zarr.
    scheduler
        Address of a Dask scheduler (tcp://..., tls://...), whose workers then compute; a cluster in
        this process when not given.
    border
        valid: only voxels whose whole field of view lies in the image; mirror: all voxels, with the
        image continued by reflection.
    augment
        Average over so many flips (8) or flips and transposes (16); takes as many times longer.
    dtype
        float64 is computed in float64 too; uint8 takes a quarter of the room, with 255 for 1.
    region
        Image voxels that the map shall lie over, as 0:100,:,190:250 (z,y,x).
    output
        Output node, where the network has several.
    memory_limit
        Memory for blocks in flight, such as 4GB; the fastest block that fits is chosen.
    no_pyramid
        Do not build the map's lower resolutions, which viewers need of large maps.
    overwrite
        Begin again where another prediction is at OUT.
    plan
        Only show which blocks come into question on this machine, with their predicted speed and
        memory, and the one that is chosen. Nothing is computed or written.
    """
    from znn_dask.cluster.local import local_cluster
    from znn_dask.dashboard.link import page_link
    from znn_dask.inference.predict import predict as run
    from znn_dask.inference.predict import preview
    from znn_dask.inference.request import Options
    from znn_dask.inference.watching import Watcher
    from znn_dask.segmentation.maps import parse_region

    options = Options(
        border=border,
        augment=False if augment == 1 else augment,
        dtype=dtype,
        output=output,
        region=None if region is None else parse_region(region),
        memory_limit=memory_limit,
        overwrite=overwrite,
    )
    if plan:
        print(preview(checkpoint, image, out, **options))
        return

    class Announcer(Watcher):
        def begin(self, plan: object, done: object, place: str) -> None:
            say(f"dashboard: {page_link(client)}")

    client = connect(scheduler) if scheduler else local_cluster()
    try:
        place = run(
            *(checkpoint, image, out),
            client=client,
            pyramid=not no_pyramid,
            watchers=[Announcer()],
            **options,
        )
    finally:
        client.close()
    say(f"map in {place}; next: znn-dask segment {out} objects.zarr")
