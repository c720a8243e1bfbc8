"""Predicting a whole volume, block by block; may be interrupted anywhere and run again."""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from distributed import Client
from distributed.system import MEMORY_LIMIT

from znn_dask.cluster.local import cores
from znn_dask.data.preprocessing import Preprocessing
from znn_dask.data.pyramid import build_pyramid
from znn_dask.inference import settings, store
from znn_dask.inference.blocks import BlockPlan, Border, PredictionError, Triple, half_field
from znn_dask.inference.drivers import run_local
from znn_dask.inference.forecast import candidate_table, forecast, measured, say
from znn_dask.inference.job import UINT8_LEVELS, BlockReport, Job
from znn_dask.inference.metadata import prediction_attributes
from znn_dask.inference.need import Room
from znn_dask.inference.on_dask import USABLE, Crew, run_on_dask
from znn_dask.inference.publishing import Publisher
from znn_dask.inference.request import Options, prepare
from znn_dask.inference.watching import Watcher
from znn_dask.taskgraph import ForwardPass
from znn_dask.training.checkpoint import CheckpointState
from znn_dask.training.progress import track


def predict(
    checkpoint: str | Path | CheckpointState,
    image: Any,
    out: str | Path,
    *,
    client: Client | None = None,
    block: Triple | None = None,
    chunks: Triple | None = None,
    border: Border = "valid",
    augment: bool | int = False,
    dtype: settings.OutputType = "float32",
    output: str | None = None,
    region: Any = None,
    memory_limit: int | str | None = None,
    pyramid: bool = True,
    overwrite: bool = False,
    progress: bool = True,
    watchers: Sequence[Watcher] = (),
) -> str:
    """Run a trained network over an image and write the result as OME-Zarr; returns where it is.

    The output group holds array "0", (c,z,y,x): what the loss was computed from, so softmaxed where
    the loss is softmax. Blocks that are finished are recorded: the same call after an interruption
    computes only the missing ones, and the result has the bits of an uninterrupted run.

    Parameters
    ----------
    checkpoint
        Path of a checkpoint, or of a folder of them (its latest), or a loaded one.
    image
        (z,y,x) or (c,z,y,x): path such as "in.zarr/image", open Volume, Zarr or numpy array; one of
        each input node by name where they differ.
    client
        Dask client whose workers compute; None: threads of this process.
    block, chunks
        Voxels z,y,x that one task computes, and of the output's chunks; chosen if None.
    border
        "valid": only voxels whose whole field of view lies in the image; "mirror": all voxels, with
        the image continued symmetrically.
    augment
        Average over 8 flips (True or 8), or with transposes of y and x (16).
    dtype
        "float32", "float64" (computed in it too), or "uint8" with 255 for 1.
    output
        Output node, where the network has several.
    region
        Image voxels that the output shall lie over: three slices or (start, stop), z,y,x.
    memory_limit
        What all blocks in flight may take, in each process; bytes or such as "4 GB".
    pyramid
        Then build lower resolutions (`build_pyramid`), for viewers.
    overwrite
        Begin again where another prediction is at `out`.
    progress
        Show a bar on standard error, or a line every half minute where that is no terminal.
    watchers
        Who else is told how it goes.

    Raises
    ------
    PredictionError
        A request that does not fit the image or network, something else at `out`, or a block that
        failed repeatedly.
    """
    place = settings.absolute(out)
    request = prepare(
        checkpoint,
        image,
        place,
        chunks=chunks,
        border=border,
        augment=augment,
        dtype=dtype,
        output=output,
        region=region,
        memory_limit=memory_limit,
        overwrite=overwrite,
    )
    state, node, images, used = request.state, request.node, request.images, request.variants
    plan = request.plan(block)
    arithmetic = request.arithmetic(plan)
    record = {
        "format": store.FORMAT,
        "checkpoint": store.parameters_fingerprint(
            {
                "network": state.network,
                "loss": state.loss,
                "target": state.target,
                "preprocessing": dict(state.preprocessing),
            },
            state.parameters,
        ),
        "image": "+".join(store.image_fingerprint(array) for array in images.values()),
        "output node": node.name,
        "augment": len(used),
        "dtype": dtype,
        "plan": plan.to_json(),
        "arithmetic": [how.to_dict() for how in arithmetic.values()],
    }
    if request.stored is not None:
        store.check_same(place, request.stored, record)
    need = request.cost.need(*arithmetic.values())
    here = request.memory or int(USABLE * MEMORY_LIMIT)
    crew: Crew | Room
    crew = need.fitting(cores(), here) if client is None else Crew(client, need, request.memory)
    if overwrite and store.read_record(place) is not None:
        store.remove(place)

    voxel_size = settings.voxel_size(next(iter(images.values())))
    half = half_field(plan.field_of_view)
    target = store.begin(
        place,
        record,
        prediction_attributes(
            Path(place).name,
            voxel_size,
            [(o + h) * v for o, h, v in zip(plan.origin, half, voxel_size, strict=True)],
            1 / UINT8_LEVELS if dtype == "uint8" else 1.0,
        ),
        (node.size, *plan.output_shape),
        plan.unit,
        dtype,
    )
    job = Job(
        plan=plan,
        forward={
            size: ForwardPass(request.network, dict(state.parameters), size, arithmetic=how)
            for size, how in arithmetic.items()
        },
        images=images,
        preprocessing=_preprocessing(place, state.preprocessing, images),
        output=node.name,
        softmax=request.softmax,
        variants=used,
        affinity=request.affinity,
        target=target,
        markers=store.Markers(place, store.run_name(record)),
    )
    done = job.markers.done()
    missing = [k for k in range(plan.count) if k not in done]
    if isinstance(crew, Room):
        rooms, reports = [crew], run_local(job, missing, crew)
    else:
        rooms, reports = crew.rooms(), run_on_dask(job, missing, crew)
    if progress and missing:
        say(forecast(request, plan, arithmetic, need, rooms, len(missing)))
    published = [] if client is None else [Publisher(client, job.markers.run)]
    followers = [*published, *watchers]
    begun, voxels = time.monotonic(), 0
    with closing(reports), ExitStack() as stack:
        for watcher in followers:
            watcher.begin(plan, done, place)
            stack.callback(watcher.end)
        shown: Iterable[BlockReport] = reports
        if progress:
            shown = track(
                *(reports, f"{Path(place).name}, blocks", plan.count),
                done=len(done),
                voxels=lambda report: report.voxels,
            )
        for report in shown:
            voxels += report.voxels
            for watcher in followers:
                watcher.finished(report.index)
    if progress and voxels:
        say(measured(voxels, time.monotonic() - begun))
    if pyramid:
        build_pyramid(place, "mean", client=client, progress=progress)
    return place


def preview(
    checkpoint: str | Path | CheckpointState,
    image: Any,
    out: str | Path,
    **options: Unpack[Options],
) -> str:
    """A table of the blocks that `predict` with these arguments may use on this machine, with their
    predicted speed and memory, and the one that it chooses. Nothing is computed or written.

    Raises PredictionError, one line, as `predict` does.
    """
    request = prepare(checkpoint, image, settings.absolute(out), **options)
    return candidate_table(request, cores(), request.memory or int(USABLE * MEMORY_LIMIT))


@dataclass(frozen=True)
class PredictionStatus:
    """How far a prediction has come."""

    plan: BlockPlan
    done: int

    @property
    def finished(self) -> bool:
        return self.done == self.plan.count


def prediction_status(out: str | Path) -> PredictionStatus:
    """Status of the prediction at `out`; raises PredictionError where there is none."""
    place = settings.absolute(out)
    record = store.read_record(place)
    if record is None:
        raise PredictionError(f"{place} does not exist: predict into it first")
    markers = store.Markers(place, store.run_name(record))
    return PredictionStatus(BlockPlan.from_json(record["plan"]), len(markers.done()))


def _preprocessing(
    out: str, trained: Mapping[str, Any], images: Mapping[str, Any]
) -> dict[str, Preprocessing]:
    """The checkpoint's rule with each image's own statistics, as in training."""
    kept = store.load_preprocessing(out)
    if kept is not None:
        return {name: Preprocessing.from_dict(kept[name]) for name in images}
    rule = Preprocessing.from_dict(trained) if trained else Preprocessing("none")
    fitted = {name: rule.fit(array) for name, array in images.items()}
    store.save_preprocessing(out, {name: rule.to_dict() for name, rule in fitted.items()})
    return fitted
