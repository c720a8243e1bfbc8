"""From a probability map to objects, block by block; may be interrupted anywhere and run again."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from znn_dask.data.metadata import VoxelSize, multiscales
from znn_dask.data.progress import shown
from znn_dask.data.pyramid import build_pyramid
from znn_dask.data.spread import spread
from znn_dask.inference.store import image_fingerprint
from znn_dask.kernels.geometry import Triple, box_shape, origin
from znn_dask.segmentation import store
from znn_dask.segmentation.agglomerate import Hierarchy, agglomerate
from znn_dask.segmentation.crew import Crew, assemble
from znn_dask.segmentation.grid import Grid, triple
from znn_dask.segmentation.job import Job, Stage
from znn_dask.segmentation.maps import (
    Kind,
    OpenedMap,
    Probability,
    Region,
    SegmentationError,
    open_map,
    resolve_kind,
    resolve_region,
)
from znn_dask.segmentation.merging import (
    BYTES_PER_CONTACT,
    MERGING_BYTES_PER_VOXEL,
    contacts_of,
    merge,
)
from znn_dask.segmentation.need import CHUNK, Need, mib
from znn_dask.segmentation.region_graph import region_graph
from znn_dask.segmentation.watershed import Landscape, fragments, sampling_of
from znn_dask.training.progress import duration

if TYPE_CHECKING:
    from distributed import Client

DEFAULT_THRESHOLD = {"boundary": 0.5, "affinity": 0.3}
"""Merge threshold by kind of map; best on simulated maps of real tissue with noise."""


@dataclass(frozen=True)
class SegmentationParameters:
    """What decides the objects.

    threshold: contacts with a mean boundary probability below it are merged. The default suits
        boundary maps; for affinities, which are not blurred over two voxels, 0.3 is better
        (`DEFAULT_THRESHOLD`).
    seed_threshold: a voxel with a boundary probability below it is inside a cell.
    smoothing, spacing: see `watershed.Landscape`, in units of the smallest voxel edge.
    minimum_size: objects of fewer voxels join their best neighbour.
    in_plane: segment every slice by itself.
    """

    threshold: float = 0.5
    seed_threshold: float = 0.5
    smoothing: float = 0.5
    spacing: float = 2.0
    minimum_size: int = 50
    in_plane: bool = False

    def __post_init__(self) -> None:
        for name in ("threshold", "seed_threshold"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise SegmentationError(
                    f"{name} {value} is no probability; choose one from 0 to 1, such as 0.5"
                )
        for name in ("smoothing", "spacing", "minimum_size"):
            if getattr(self, name) < 0:
                raise SegmentationError(f"{name} {getattr(self, name)} is negative; use 0 or more")

    def landscape(self, voxel_size: VoxelSize | None) -> Landscape:
        sampling = sampling_of(voxel_size, self.in_plane)
        return Landscape(self.seed_threshold, self.smoothing, self.spacing, sampling, self.in_plane)


def segment(
    probability: Any,
    out: str | Path,
    *,
    client: "Client | None" = None,
    kind: Kind = "auto",
    threshold: float | None = None,
    seed_threshold: float = SegmentationParameters.seed_threshold,
    smoothing: float = SegmentationParameters.smoothing,
    spacing: float = SegmentationParameters.spacing,
    minimum_size: int = SegmentationParameters.minimum_size,
    in_plane: bool = False,
    region: Region | str | None = None,
    voxel_size: VoxelSize | None = None,
    block: Triple | None = None,
    memory_limit: int | str | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> str:
    """Segment a boundary or affinity map into objects; returns where they are.

    Works block by block, so the map may be larger than memory, and the objects are the same, bit
    for bit, whatever the blocks, threads or workers. What is finished is recorded: the same call
    after an interruption goes on from there.

    Parameters
    ----------
    probability
        Path or URL of a Zarr array or OME-Zarr group, or an array, with axes (c, z, y, x) or
        (z, y, x). Boundary maps have one channel (boundary) or two (inside, boundary), affinity
        maps three (x, y, z).
    out
        Path or URL of a new OME-Zarr label image; its array `0` holds the objects, (z, y, x)
        uint32, ids 1..n, lower resolutions follow. It can be opened once it is complete.
    client
        Dask client whose workers compute; they must see the same storage. None: threads of this
        process.
    kind
        "boundary" or "affinity"; "auto": affinities when the map has three channels.
    threshold
        Contacts with a mean boundary probability below it are merged; default by kind, see
        `DEFAULT_THRESHOLD`. `best_parameters` finds a better one on a labelled region.
    seed_threshold
        A voxel with a boundary probability below it is inside a cell.
    smoothing, spacing
        See `watershed.Landscape`; in units of the smallest voxel edge.
    minimum_size
        Objects of fewer voxels join their best neighbour.
    in_plane
        Segment every slice by itself.
    region
        Part of the map to segment, slices z, y, x or text "0:100,:,190:250"; `out` then has the
        shape of the region and records its offset.
    voxel_size
        (z, y, x) nm, default what the map records.
    block
        Voxels z, y, x that one task works on, multiples of 64; chosen if None.
    memory_limit
        What all blocks under way may take in each process; bytes or such as "4 GB".
    threads
        Of this process, where there is no client; one per core if None.
    overwrite
        Replace objects that are complete, or were begun with other settings.
    progress
        Show a bar on standard error.

    Raises
    ------
    SegmentationError
        For a map, region, setting or output that cannot be used, where memory does not suffice,
        and when a block fails.
    """
    opened = open_map(probability)
    resolved = resolve_kind(kind, opened.shape)
    box = resolve_region(region, opened.shape[-3:])
    if client is not None and not isinstance(opened.array, zarr.Array):
        raise SegmentationError(
            "workers cannot read an array of this process; give the path of a Zarr array"
        )
    parameters = SegmentationParameters(
        DEFAULT_THRESHOLD[resolved] if threshold is None else threshold,
        *(seed_threshold, smoothing, spacing, minimum_size, in_plane),
    )
    voxel_size = voxel_size or opened.voxel_size
    landscape = parameters.landscape(voxel_size)
    world = triple(box_shape(box))
    need = Need(world, 1 if len(opened.shape) == 3 else opened.shape[0], landscape)
    crew = assemble(client, threads, memory_limit)

    folder = store.Folder(_place(out))
    record = {
        "source": opened.source,
        "map": image_fingerprint(opened.array),
        "kind": resolved,
        "region": [[s.start, s.stop] for s in box],
        "voxel_size": list(voxel_size),
        "parameters": asdict(parameters),
    }
    begun = _begun(folder, record, overwrite)
    if begun is not None and block is None and "block" in begun:
        block = triple(begun["block"])
    grid = Grid(
        world, need.choose(crew.threads, crew.memory) if block is None else need.checked(block)
    )
    if begun is not None and begun.get("block", list(grid.block)) != list(grid.block):
        raise SegmentationError(
            f"{folder.place} was begun with blocks of {tuple(begun['block'])} but this run has "
            f"{grid.block}: give the same, another output path, or overwrite"
        )
    lanes = need.lanes(grid.block, crew.threads, crew.memory)
    if store.finished_record(folder) is None:
        store.write_record(folder, record | {"block": list(grid.block)})
        job = _job(opened, resolved, origin(box), grid, landscape, folder)
        title = f"{Path(folder.place).name}, blocks"
        if progress:
            crew.say(_forecast(need, grid, lanes, crew))
        steps = _steps(job, crew, lanes, parameters, progress)
        done = sum(len(job.parts.done(stage)) for stage in ("named", "contacts", "written"))
        for _ in shown(steps, title, 3 * len(grid), "blocks", progress, done=done):
            pass
        objects = store.merged_objects(folder)
        _complete(folder, voxel_size, _offset(opened, box), record | {"objects": objects})
    build_pyramid(folder.place, "mode", client=client, threads=lanes, progress=progress)
    folder.remove(store.RECORD)
    return folder.place


def _steps(
    job: Job, crew: Crew, lanes: int, parameters: SegmentationParameters, progress: bool
) -> Iterator[int]:
    """Yield every block of every stage when it is done."""

    def stage(name: Stage) -> Iterable[int]:
        missing = sorted(set(range(len(job.grid))) - job.parts.done(name))
        work = functools.partial(_run, job, name)
        return spread(work, missing, name=f"segment-{name}", client=crew.client, threads=lanes)

    yield from stage("named")
    yield from stage("contacts")
    if store.merged_objects(job.parts.folder) is None:
        contacts = contacts_of(job.parts, len(job.grid))
        crew.hold(contacts * BYTES_PER_CONTACT, f"merging {contacts:,} contacts")
        if progress:
            crew.say(f"merging {contacts:,} contacts in this process")
        objects = merge(job.parts, len(job.grid), parameters.threshold, parameters.minimum_size)
        store.write_merged(job.parts.folder, objects)
    yield from stage("written")


def _run(job: Job, stage: Stage, index: int) -> None:
    job.run(stage, index)


def _job(
    opened: OpenedMap,
    kind: Any,
    corner: Triple,
    grid: Grid,
    landscape: Landscape,
    folder: store.Folder,
) -> Job:
    chunks = tuple(min(CHUNK, n) for n in grid.world)
    return Job(
        opened,
        kind,
        corner,
        grid,
        landscape,
        store.Parts(folder),
        fragments=store.open_array(folder, store.FRAGMENTS, grid.world, chunks),
        objects=store.open_array(folder, "0", grid.world, chunks),
    )


def _begun(folder: store.Folder, record: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """What an earlier run with the same settings has recorded; None where there is nothing.

    Raises SegmentationError where something else is, unless it may be overwritten.
    """
    begun = store.read_record(folder)
    complete = store.finished_record(folder)
    found = begun if complete is None else complete
    if found is None:
        if not folder.names():
            return None
        if folder.get("zarr.json") is None or not overwrite:
            raise SegmentationError(
                f"{folder.place} exists already and is no segmentation"
                + ("; choose another path" if overwrite else "; choose another path or overwrite")
            )
    elif not (complete is not None and overwrite):
        differing = list(store.differences(found, record))
        if not differing:
            return found
        if not overwrite:
            name, old, new = differing[0]
            raise SegmentationError(
                f"{folder.place} exists already with {name} {old}, and this run has {new}; "
                "choose another path or overwrite"
            )
    store.clear(folder)
    return None


def _forecast(need: Need, grid: Grid, lanes: int, crew: Crew) -> str:
    size = "x".join(str(n) for n in grid.block)
    threads = lanes * crew.processes
    merging = MERGING_BYTES_PER_VOXEL * float(np.prod(grid.world, dtype=np.int64))
    seconds = need.seconds(grid) / min(threads, len(grid))
    return (
        f"block {size}, {len(grid)} of them, {need.waste(grid):.0%} of the work on halos; "
        f"predicted {duration(seconds)} on {threads} threads, "
        f"{mib(lanes * need.bytes(grid.block))} "
        f"in each process, then about {mib(merging)} here to merge"
    )


def _complete(
    folder: store.Folder, voxel_size: VoxelSize, offset: Triple, record: dict[str, Any]
) -> None:
    """Write the metadata of the image, which makes it one."""
    metadata = multiscales(Path(folder.place).name, "zyx", voxel_size)
    translation = [float(o * s) for o, s in zip(offset, voxel_size, strict=True)]
    metadata["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"].append(
        {"type": "translation", "translation": translation}
    )
    metadata["ome"]["image-label"] = {}
    zarr.create_group(folder.place, attributes=metadata | {"segmentation": record}, zarr_format=3)


def _offset(opened: OpenedMap, box: Region) -> Triple:
    return triple(o + s.start for o, s in zip(opened.offset or (0, 0, 0), box, strict=True))


def _place(out: str | Path) -> str:
    text = str(out).removeprefix("file://").rstrip("/")
    return text if "://" in text else str(Path(text).absolute())


def segment_array(
    probability: Probability,
    parameters: SegmentationParameters,
    *,
    voxel_size: VoxelSize | None = None,
) -> np.ndarray:
    """Objects (z, y, x) uint32, ids 1..n, of a probability map in memory, as `segment` does."""
    pieces, hierarchy = build_hierarchy(probability, parameters, voxel_size=voxel_size)
    return hierarchy.cut(parameters.threshold, parameters.minimum_size)[pieces]


def build_hierarchy(
    probability: Probability,
    parameters: SegmentationParameters,
    *,
    voxel_size: VoxelSize | None = None,
) -> tuple[np.ndarray, Hierarchy]:
    """Fragments (z, y, x) uint32 and their merges up to `parameters.threshold`."""
    pieces = fragments(
        probability.boundary,
        seed_threshold=parameters.seed_threshold,
        smoothing=parameters.smoothing,
        spacing=parameters.spacing,
        voxel_size=voxel_size,
        in_plane=parameters.in_plane,
    )
    graph = region_graph(pieces, probability, in_plane=parameters.in_plane)
    return pieces, agglomerate(graph, parameters.threshold)
