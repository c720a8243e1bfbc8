"""Comparing objects with ground truth on disk, block by block."""

import functools
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import zarr
from scipy import ndimage

from znn_dask.kernels.geometry import Box, Triple, box_shape, origin, relative, shift
from znn_dask.segmentation.alignment import aligned
from znn_dask.segmentation.components import Sides, Stitching, components
from znn_dask.segmentation.contingency import Contingency, ContingencyStream, counted
from znn_dask.segmentation.grid import Grid, grown, make_box, triple
from znn_dask.segmentation.maps import OpenedMap, Region, SegmentationError, open_map
from znn_dask.segmentation.scores import Scores, Unlabelled, scores_from_table

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")

EDGE = 128
"""Voxels along each axis that one task reads, about."""


@dataclass(frozen=True)
class _Comparison:
    """What one task needs; boxes and blocks are counted within what is compared."""

    objects: OpenedMap
    labels: OpenedMap
    objects_corner: Triple
    labels_corner: Triple
    grid: Grid
    relabel: bool
    in_plane: bool
    ignore_boundary: int

    def block(self, index: int) -> tuple[Contingency, Sides | None, Sides | None]:
        """Common voxels of a block, and the sides of components of objects and of labels."""
        world, block = self.grid.world, self.grid.at(index)
        flat = int(self.in_plane)
        around = make_box(
            (s.start for s in block),
            (
                min(n, s.stop + 1 - flat * (a == 0))
                for a, (s, n) in enumerate(zip(block, world, strict=True))
            ),
        )
        halo = self.ignore_boundary
        wide = grown(around, (halo * (1 - flat), halo, halo), world)
        labels = _integers(_read(self.labels, self.labels_corner, wide), "labels")
        inner = relative(block, around)
        keep = np.ones(box_shape(block), bool)
        if halo:
            keep = ~_near_boundary(labels, halo, self.in_plane)[relative(block, wide)]
        truth = labels[relative(around, wide)]
        found = _integers(_read(self.objects, self.objects_corner, around), "objects")
        keep &= truth[inner] != 0
        label_sides = object_sides = None
        if self.relabel or self.in_plane:
            truth = components(truth, self.in_plane)
            label_sides = Sides.of(truth, box_shape(block))
        if self.in_plane:
            found = components(found, True)
            object_sides = Sides.of(found, box_shape(block))
        return counted(found[inner], truth[inner], keep), object_sides, label_sides


def evaluate(
    objects: Any,
    labels: Any,
    *,
    client: "Client | None" = None,
    region: Region | str | None = None,
    relabel_components: bool = False,
    dust: int = 0,
    in_plane: bool = False,
    ignore_boundary: int = 0,
    unlabelled: Unlabelled = "object",
    block: Triple | None = None,
    threads: int | None = None,
) -> Scores:
    """Score objects against ground-truth labels, block by block.

    Adapted Rand error after Arganda-Carreras et al. 2015 (Front. Neuroanat. 9:142), over pairs of
    distinct voxels; variation of information after Meila 2007. The error and both entropies equal
    scikit-image's, which however returns precision and recall in each other's place.

    Parameters
    ----------
    objects, labels
        Paths, URLs, Zarr arrays or arrays of ids with axes (z, y, x). Label 0 is background and is
        not scored.
    region
        Part of the labels to score, slices z, y, x or text "0:100,:,190:250". Objects that record
        their position are placed by it, and without a region all that both cover is scored. Of
        others those of the labels' shape are cut alike, and those of the region's shape taken
        whole.
    relabel_components
        First split labels into 26-connected components, as a body that is one outside a crop may
        fall into several pieces inside it.
    dust
        Label components of fewer voxels are taken as background (needs relabel_components or
        in_plane).
    in_plane
        2D scores: labels and objects are first split into the 4-connected components of every
        slice. Masks of cell interiors become labels so.
    ignore_boundary
        Leave out voxels within that many steps of a face between two labels.
    unlabelled
        What object id 0 means inside the foreground: one "object" like any other (as scikit-image
        and CREMI's VI count), "singletons" (every voxel its own object, as SNEMI3D's script
        counts), or "ignore" (not scored).

    block
        Voxels z, y, x that one task reads; chosen if None. The scores do not depend on it.
    client
        Dask client whose workers read and count, which takes paths or Zarr arrays.
    threads
        Of this process, where there is no client; one per core if None.

    Raises
    ------
    SegmentationError
        Where shapes or types do not fit, or nothing is left to score.
    """
    if dust and not (relabel_components or in_plane):
        raise SegmentationError(
            f"dust {dust} removes label components; it needs relabel_components or in_plane"
        )
    found, truth = open_map(objects), open_map(labels)
    if client is not None and not all(isinstance(m.array, zarr.Array) for m in (found, truth)):
        raise SegmentationError(
            "workers cannot read an array of this process; give paths of Zarr arrays"
        )
    object_box, label_box = aligned(found, truth, region)
    grid = Grid(triple(box_shape(label_box)), block or _block(truth))
    comparison = _Comparison(
        found,
        truth,
        origin(object_box),
        origin(label_box),
        grid,
        relabel_components,
        in_plane,
        ignore_boundary,
    )
    object_parts, label_parts = Stitching(grid), Stitching(grid)
    stream = ContingencyStream()
    for index, result in enumerate(_in_order(comparison.block, len(grid), client, threads)):
        table, object_sides, label_sides = result
        stream.add(
            table.above(
                0 if object_sides is None else object_parts.add(index, object_sides),
                0 if label_sides is None else label_parts.add(index, label_sides),
            )
        )
    table = stream.table()
    if in_plane:
        table = table.map(objects=object_parts.finish()[0])
    if relabel_components or in_plane:
        final, sizes = label_parts.finish()
        table = table.map(labels=np.where(sizes[final] < dust, 0, final))
    voxels = int(np.prod(grid.world, dtype=np.int64))
    return scores_from_table(table, voxels, unlabelled=unlabelled)


def _block(labels: OpenedMap) -> Triple:
    """About `EDGE` voxels along each axis, whole chunks of the labels."""
    chunks = getattr(labels.array, "shards", None) or getattr(labels.array, "chunks", None)
    return triple(max(1, EDGE // c) * c for c in (chunks or (EDGE, EDGE, EDGE))[-3:])


def _in_order(
    work: Callable[[int], T], count: int, client: Any, threads: int | None
) -> Iterator[T]:
    """`work` of 0, 1, 2, ... in this order, with a few under way."""
    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        if client is None:
            submit: Any = pool.submit
            ahead = 2 * pool._max_workers
        else:
            submit = functools.partial(client.submit, pure=False)
            ahead = 2 * max(1, sum(client.nthreads().values()))
        running: deque[Any] = deque()
        try:
            for index in range(count):
                running.append(submit(work, index))
                if len(running) >= ahead:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _read(opened: OpenedMap, corner: Triple, box: Box) -> np.ndarray:
    return np.asarray(opened.array[shift(box, corner)])


def _near_boundary(labels: np.ndarray, distance: int, in_plane: bool) -> np.ndarray:
    """Voxels within `distance` steps of a face between two labels (bool, same shape)."""
    near = np.zeros(labels.shape, bool)
    for axis in (1, 2) if in_plane else (0, 1, 2):
        along, ids = np.moveaxis(near, axis, 0), np.moveaxis(labels, axis, 0)
        different = ids[1:] != ids[:-1]
        along[1:] |= different
        along[:-1] |= different
    if distance > 1:
        cross = ndimage.generate_binary_structure(3, 1)
        if in_plane:
            cross[[0, 2]] = False
        near = ndimage.binary_dilation(near, cross, iterations=distance - 1)
    return near


def _integers(values: Any, what: str) -> np.ndarray:
    result = np.asarray(values)
    if result.dtype == bool:
        return result.astype(np.uint8)
    if not np.issubdtype(result.dtype, np.integer):
        raise SegmentationError(f"{what} hold {result.dtype} values; ids are whole numbers")
    return result
