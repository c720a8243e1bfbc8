"""From a probability map on disk to an object volume on disk."""

import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from znn_dask.data.metadata import VoxelSize, multiscales
from znn_dask.data.volume import create_item
from znn_dask.segmentation.agglomerate import Hierarchy, agglomerate
from znn_dask.segmentation.maps import (
    Kind,
    OpenedMap,
    Probability,
    Region,
    SegmentationError,
    open_map,
    read_probability,
    resolve_kind,
    resolve_region,
)
from znn_dask.segmentation.region_graph import region_graph
from znn_dask.segmentation.watershed import fragments

_BYTES_PER_VOXEL = 48
"""Peak of the watershed and the graph, measured; the map itself comes on top."""

DEFAULT_THRESHOLD = {"boundary": 0.5, "affinity": 0.3}
"""Merge threshold by kind of map; best on simulated maps of real tissue with noise."""


@dataclass(frozen=True)
class SegmentationParameters:
    """What decides the objects.

    threshold: contacts with a mean boundary probability below it are merged. The default suits
        boundary maps; for affinities, which are not blurred over two voxels, 0.3 is better
        (`DEFAULT_THRESHOLD`).
    seed_threshold: voxels with a boundary probability below it can seed a fragment.
    smoothing, spacing: see `watershed.fragments`, in units of the smallest voxel edge.
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


class _Stages:
    """One progress line for a few stages of known share."""

    def __init__(self, show: bool) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=not show,
        )
        self._task = self._progress.add_task("segment", total=1.0)

    def __enter__(self) -> "_Stages":
        self._progress.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._progress.stop()

    def begin(self, name: str, done: float) -> None:
        self._progress.update(self._task, description=name, completed=done)

    def advance(self, fraction: float) -> None:
        self._progress.advance(self._task, fraction)


def refuse_beyond_memory(shape: tuple[int, ...], channels: int) -> None:
    """Raise SegmentationError where a region (z, y, x) cannot be segmented in memory."""
    from distributed.system import MEMORY_LIMIT

    needed = int(np.prod(shape, dtype=np.int64)) * (_BYTES_PER_VOXEL + 4 * channels)
    if needed > MEMORY_LIMIT:
        size = "x".join(str(n) for n in shape)
        raise SegmentationError(
            f"segmenting {size} voxels needs about {needed / 2**30:.1f} GiB and this machine has "
            f"{MEMORY_LIMIT / 2**30:.1f} GiB; give a smaller region, such as region='0:100,:,:'"
        )


def segment_array(
    probability: Probability,
    parameters: SegmentationParameters,
    *,
    voxel_size: VoxelSize | None = None,
    threads: int | None = None,
    stages: _Stages | None = None,
) -> np.ndarray:
    """Objects (z, y, x) uint32, ids 1..n, of a probability map in memory."""
    stages = stages or _Stages(show=False)
    pieces, hierarchy = build_hierarchy(
        probability, parameters, voxel_size=voxel_size, threads=threads, stages=stages
    )
    return hierarchy.cut(parameters.threshold, parameters.minimum_size)[pieces]


def build_hierarchy(
    probability: Probability,
    parameters: SegmentationParameters,
    *,
    voxel_size: VoxelSize | None = None,
    threads: int | None = None,
    stages: _Stages | None = None,
) -> tuple[np.ndarray, Hierarchy]:
    """Fragments (z, y, x) uint32 and their merges up to `parameters.threshold`."""
    stages = stages or _Stages(show=False)
    stages.begin("watershed", 0.1)
    pieces = fragments(
        probability.boundary,
        seed_threshold=parameters.seed_threshold,
        smoothing=parameters.smoothing,
        spacing=parameters.spacing,
        voxel_size=voxel_size,
        in_plane=parameters.in_plane,
        threads=threads,
        advance=lambda fraction: stages.advance(0.6 * fraction),
    )
    stages.begin("contacts", 0.7)
    graph = region_graph(pieces, probability, in_plane=parameters.in_plane)
    stages.begin("merging", 0.8)
    return pieces, agglomerate(graph, parameters.threshold)


def write_objects(
    path: Path,
    objects: np.ndarray,
    *,
    voxel_size: VoxelSize = (1.0, 1.0, 1.0),
    offset: tuple[int, int, int] = (0, 0, 0),
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write objects (z, y, x) as OME-Zarr image with array `0`; replaces `path` by a rename.

    voxel_size: (z, y, x) nm; offset: voxel of the specimen at which the objects begin.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, temporary, ignore_errors=True)
        array = create_item(
            temporary, "", path.name, objects.shape, np.uint32, voxel_size=voxel_size
        )
        step = array.chunks[0]
        for start in range(0, objects.shape[0], step):
            array[start : start + step] = objects[start : start + step]
        metadata = multiscales(path.name, "zyx", voxel_size)
        translation = [float(o * s) for o, s in zip(offset, voxel_size, strict=True)]
        metadata["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"].append(
            {"type": "translation", "translation": translation}
        )
        metadata["ome"]["image-label"] = {}
        zarr.open_group(str(temporary), mode="r+").attrs.update(metadata | dict(attributes or {}))
        if path.exists():
            former = path.with_name(f".{path.name}.{uuid.uuid4().hex}.former")
            os.rename(path, former)
            undo.callback(shutil.rmtree, former, ignore_errors=True)
        os.rename(temporary, path)


def _output_path(out: str | Path, overwrite: bool) -> Path:
    text = str(out).removeprefix("file://")
    if "://" in text:
        raise SegmentationError(
            f"{text}: objects are finished by a rename, which object stores lack; "
            "write to a local path and copy"
        )
    path = Path(text)
    if path.exists() and not overwrite:
        raise SegmentationError(f"{path} exists already; choose another path or overwrite=True")
    if path.exists() and not (path / "zarr.json").is_file():
        raise SegmentationError(f"{path} is no Zarr v3 volume; it will not be replaced")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def segment(
    probability: Any,
    out: str | Path,
    *,
    kind: Kind = "auto",
    threshold: float | None = None,
    seed_threshold: float = SegmentationParameters.seed_threshold,
    smoothing: float = SegmentationParameters.smoothing,
    spacing: float = SegmentationParameters.spacing,
    minimum_size: int = SegmentationParameters.minimum_size,
    in_plane: bool = False,
    region: Region | str | None = None,
    voxel_size: VoxelSize | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Segment a boundary or affinity map into objects.

    probability: path or URL of a Zarr array or OME-Zarr group, or an array, with axes
        (c, z, y, x) or (z, y, x). Boundary maps have one channel (boundary) or two (inside,
        boundary), affinity maps three (x, y, z).
    out: new OME-Zarr group; its array `0` holds the objects, (z, y, x) uint32, ids 1..n. It
        appears complete or not at all.
    region: part of the map to segment, slices z, y, x or text "0:100,:,190:250"; `out` then has
        the shape of the region and records its offset.
    voxel_size: (z, y, x) nm, default what the map records.

    threshold: default by kind, see `DEFAULT_THRESHOLD`; `best_parameters` finds a better one on
        a labelled region.

    The other settings are those of `SegmentationParameters`. Returns the path written.
    Raises SegmentationError for a map, region, setting or output path that cannot be used.
    """
    opened = open_map(probability)
    box, size = _placed(opened, region)
    if threshold is None:
        threshold = DEFAULT_THRESHOLD[resolve_kind(kind, opened.shape)]
    parameters = SegmentationParameters(
        threshold, seed_threshold, smoothing, spacing, minimum_size, in_plane
    )
    path = _output_path(out, overwrite)
    voxel_size = voxel_size or opened.voxel_size
    with _Stages(progress) as stages:
        stages.begin("reading", 0.0)
        values = read_probability(opened, kind, box)
        objects = segment_array(
            values, parameters, voxel_size=voxel_size, threads=threads, stages=stages
        )
        stages.begin("writing", 0.9)
        count = int(objects.max())
        record = {
            "source": opened.source,
            "region": [[s.start, s.stop] for s in box],
            "parameters": asdict(parameters),
            "objects": count,
        }
        oz, oy, ox = opened.offset or (0, 0, 0)
        offset = (oz + box[0].start, oy + box[1].start, ox + box[2].start)
        write_objects(
            path,
            objects,
            voxel_size=voxel_size,
            offset=offset,
            attributes={"segmentation": record},
        )
        stages.begin(f"{count} objects in {size}", 1.0)
    return path


def _placed(opened: OpenedMap, region: Region | str | None) -> tuple[Region, str]:
    """The region inside the map and its size as text, checked against memory."""
    if len(opened.shape) not in (3, 4):
        raise SegmentationError(
            f"a probability map has axes (c, z, y, x) or (z, y, x), got shape {opened.shape}"
        )
    box = resolve_region(region, opened.shape[-3:])
    shape = tuple(s.stop - s.start for s in box)
    refuse_beyond_memory(shape, 1 if len(opened.shape) == 3 else opened.shape[0])
    return box, "x".join(str(n) for n in shape)
