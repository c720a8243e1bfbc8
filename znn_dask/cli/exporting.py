"""`export`: maps and objects to TIFF and Neuroglancer, networks to ZNN."""

from pathlib import Path

from znn_dask.cli.arguments import Switch, connect
from znn_dask.cli.errors import say


def export(
    source: str, target: str, /, *, scheduler: str | None = None, overwrite: Switch = False
) -> None:
    """Export an image, map or objects to TIFF or Neuroglancer, or a checkpoint to a ZNN network.

    The name of TARGET decides: .tif or .tiff (OME-TIFF, with voxel size), .precomputed or
    precomputed:// before a path or URL (Neuroglancer, all resolutions), .h5 (ZNN's network), or
    .znn (the network's text alone).

    Example:

        znn-dask export objects.zarr objects.tif

    Parameters
    ----------
    source
        An array such as volume.zarr/image, map.zarr or objects.zarr; or a checkpoint.
    target
        The file or folder to write; it appears when it is complete.
    scheduler
        Address of a Dask scheduler (tcp://..., tls://...), whose workers then write a precomputed
        volume; threads of this process when not given.
    overwrite
        Replace TARGET.
    """
    place = target.removeprefix("precomputed://")
    path = Path(place)
    if "://" not in place and path.exists() and not overwrite:
        raise ValueError(f"{path} exists already; choose another name or give --overwrite")
    ending = path.suffix.lower()
    if place != target or ending == ".precomputed":
        _to_precomputed(source, place, scheduler)
    elif ending in (".tif", ".tiff"):
        from znn_dask.data.exporting import export_tiff

        export_tiff(source, path, progress=True)
    elif ending in (".h5", ".hdf5"):
        _to_znn_h5(source, path)
    elif ending == ".znn":
        from znn_dask.cli.arguments import open_network
        from znn_dask.network import write_znn

        write_znn(open_network(source), path)
    else:
        raise ValueError(f"{path} ends in {ending!r}; use .tif, .precomputed, .h5 or .znn")
    say(f"written to {target}")


def _to_precomputed(source: str, place: str, scheduler: str | None) -> None:
    from contextlib import ExitStack

    from znn_dask.data.precomputed import export_precomputed

    with ExitStack() as stack:
        client = None if scheduler is None else stack.enter_context(connect(scheduler))
        export_precomputed(source, place, client=client, progress=True)


def _to_znn_h5(checkpoint: str, target: Path) -> None:
    import numpy as np

    from znn_dask.interop.znn_h5 import ZnnFile, write_znn_h5
    from znn_dask.network import parse_znn
    from znn_dask.training.checkpoint import load_checkpoint

    state = load_checkpoint(checkpoint)
    network = parse_znn(state.network)
    if both := {n.name for n in network.nodes} & {e.name for e in network.edges}:
        raise ValueError(
            f"{checkpoint}: {min(both)!r} names a node group and an edge group, which a .h5 cannot "
            "hold; rename one in the network and train again"
        )
    curves = {
        name: {
            "it": series.column("step"),
            "err": series.column("loss"),
            "cls": series.column("error"),
        }
        for name, series in (("train", state.curve.train), ("test", state.curve.validation))
    }
    seconds = state.curve.train.column("seconds")
    write_znn_h5(
        target,
        ZnnFile(
            network,
            {name: np.asarray(values) for name, values in state.parameters.items()},
            {name: np.asarray(values) for name, values in state.momenta.items()},
            curves,
            float(seconds[-1]) if len(seconds) else 0.0,
        ),
    )
