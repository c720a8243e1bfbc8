"""`evaluate`: objects against ground truth."""

from typing import Literal

from znn_dask.cli.arguments import Region, Switch, connect


def evaluate(
    objects: str,
    labels: str,
    /,
    *,
    scheduler: str | None = None,
    region: Region = None,
    relabel_components: Switch = False,
    dust: int = 0,
    in_plane: Switch = False,
    ignore_boundary: int = 0,
    unlabelled: Literal["object", "singletons", "ignore"] = "object",
    json_: Switch = False,
) -> None:
    """Score objects against labels: adapted Rand error and variation of information.

    Label 0 is background and is not scored. Objects that record their position are placed by it.

    Example:

        znn-dask evaluate objects.zarr volume.zarr/labels --region 0:100,:,190:250

    Parameters
    ----------
    objects
        What `segment` wrote, or other ids (z,y,x).
    labels
        The truth, such as volume.zarr/labels.
    scheduler
        Address of a Dask scheduler, whose workers then read and count; threads of this process when
        not given.
    region
        Part of the labels to score (z,y,x).
    relabel_components
        Split labels into connected components first: a cell may fall into pieces inside a crop.
    dust
        Take label components of fewer voxels as background.
    in_plane
        2D scores, slice by slice.
    ignore_boundary
        Leave out voxels within so many steps of a face between two labels.
    unlabelled
        What object id 0 means inside the foreground.
    json_
        Print JSON.
    """
    from znn_dask.segmentation import evaluate as run

    client = None if scheduler is None else connect(scheduler)
    try:
        scores = run(
            objects,
            labels,
            client=client,
            region=region,
            relabel_components=relabel_components,
            dust=dust,
            in_plane=in_plane,
            ignore_boundary=ignore_boundary,
            unlabelled=unlabelled,
        )
    finally:
        if client is not None:
            client.close()
    print(scores.to_json() if json_ else scores)
