"""Maps to objects: watershed, region graph, agglomeration, files."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from skimage.metrics import adapted_rand_error
from truth import affinity_map, boundary_map, voronoi

from znn_dask.data.metadata import VolumeError, multiscales
from znn_dask.segmentation import (
    SegmentationError,
    SegmentationParameters,
    agglomerate,
    best_parameters,
    evaluate,
    fragments,
    raw_watershed,
    region_graph,
    segment,
)
from znn_dask.segmentation.maps import Probability, boundary_from_affinity, open_map
from znn_dask.segmentation.region_graph import contract
from znn_dask.segmentation.segment import segment_array


def store_map(
    path: Path, values: np.ndarray, position: tuple | None = None, scale: float = 1.0
) -> str:
    """A map as prediction writes it: OME-Zarr group, full resolution in `0`."""
    group = zarr.open_group(str(path), mode="w")
    array = group.create_array("0", shape=values.shape, dtype=values.dtype, chunks=(1, 16, 16, 16))
    array[:] = values
    attributes = multiscales("map", "czyx", (8.0, 8.0, 8.0))
    if position is not None:
        moved = {"type": "translation", "translation": [0.0, *(8.0 * p for p in position)]}
        dataset = attributes["ome"]["multiscales"][0]["datasets"][0]
        dataset["coordinateTransformations"].append(moved)
    group.attrs.update(attributes | {"znn_dask": {"scale": scale}})
    return str(path)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return voronoi((40, 44, 48), 25, seed=5)


def test_two_channel_boundary_file_to_objects(tmp_path: Path, truth: np.ndarray) -> None:
    boundary = boundary_map(truth, noise=0.1, seed=1)
    source = store_map(tmp_path / "boundary.zarr", np.stack([1 - boundary, boundary]))
    out = segment(source, tmp_path / "objects.zarr", progress=False)
    group = zarr.open_group(str(out), mode="r")
    objects = group["0"]
    assert isinstance(objects, zarr.Array)
    assert (objects.shape, objects.dtype, group.metadata.zarr_format) == (truth.shape, "uint32", 3)
    values = objects[:]
    assert values.min() == 1
    assert set(np.unique(values)) == set(range(1, int(values.max()) + 1))
    assert group.attrs["segmentation"]["objects"] == values.max()
    assert evaluate(out, truth).adapted_rand_error < 0.08
    assert open_map(out).voxel_size == (8.0, 8.0, 8.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["boundary.zarr", "objects.zarr"]


def test_affinity_file_to_objects(tmp_path: Path, truth: np.ndarray) -> None:
    source = store_map(tmp_path / "affinity.zarr", affinity_map(truth, noise=0.2, seed=2))
    out = segment(source, tmp_path / "objects.zarr", progress=False)
    assert evaluate(out, truth).adapted_rand_error < 0.08


def test_integer_and_plain_maps_are_the_same_map(tmp_path: Path, truth: np.ndarray) -> None:
    levels = np.round(boundary_map(truth, noise=0.1, seed=1) * 255).astype(np.uint8)
    first = segment(levels, tmp_path / "a.zarr", progress=False)
    second = segment(np.float32(levels / 255)[None], tmp_path / "b.zarr", progress=False)
    a, b = (open_map(p).array[:] for p in (first, second))
    assert np.array_equal(a, b)


def test_region_has_offset_and_same_bits(tmp_path: Path, truth: np.ndarray) -> None:
    boundary = boundary_map(truth, noise=0.1, seed=1)
    out = segment(boundary, tmp_path / "part.zarr", region="5:30,:,10:40", progress=False)
    whole = segment(boundary[5:30, :, 10:40], tmp_path / "cut.zarr", progress=False)
    assert np.array_equal(open_map(out).array[:], open_map(whole).array[:])
    ome = zarr.open_group(str(out), mode="r").attrs["ome"]
    steps = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert steps[1] == {"type": "translation", "translation": [5.0, 0.0, 10.0]}
    assert evaluate(out, truth) == evaluate(open_map(out).array[:], truth[5:30, :, 10:40])


def test_in_plane_objects_stay_in_their_slice() -> None:
    truth = np.stack([voronoi((1, 60, 60), 12, seed=z)[0] for z in range(4)])
    boundary = boundary_map(truth, noise=0.08, seed=3, in_plane=True)
    parameters = SegmentationParameters(in_plane=True, minimum_size=20)
    objects = segment_array(Probability(boundary), parameters)
    per_slice = [set(np.unique(plane)) for plane in objects]
    assert sum(len(ids) for ids in per_slice) == len(set.union(*per_slice))
    assert evaluate(objects, truth, in_plane=True).adapted_rand_error < 0.1


def test_region_graph_counts_every_face_once() -> None:
    rng = np.random.default_rng(0)
    pieces = np.kron(np.arange(1, 28).reshape(3, 3, 3), np.ones((3, 3, 3), int)).astype(np.uint32)
    boundary = rng.random(pieces.shape).astype(np.float32)
    expected: dict[tuple[int, int], list[float]] = {}
    for axis in range(3):
        ids, values = np.moveaxis(pieces, axis, 0), np.moveaxis(boundary, axis, 0)
        for index in np.argwhere(ids[1:] != ids[:-1]):
            before, after = tuple(index), (index[0] + 1, *index[1:])
            edge = tuple(sorted((int(ids[before]), int(ids[after]))))
            expected.setdefault(edge, []).append(max(values[before], values[after]))
    graph = region_graph(pieces, Probability(boundary))
    assert [tuple(e) for e in graph.edges.tolist()] == sorted(expected)
    assert graph.faces.tolist() == [len(expected[e]) for e in sorted(expected)]
    means = [np.mean(expected[e]) for e in sorted(expected)]
    assert np.allclose(graph.boundary, means, atol=1e-5)
    assert graph.sizes.tolist() == [0] + [27] * 27


def test_agglomeration_contracts_as_a_direct_recount() -> None:
    truth = voronoi((24, 24, 24), 60, seed=9)
    values = Probability(boundary_map(truth, noise=0.3, seed=4))
    hierarchy = agglomerate(region_graph(truth, values))
    assert np.all(np.diff(hierarchy.height) >= 0)
    regions = hierarchy.cut(0.75)
    assert 1 < regions.max() < 60
    merged = region_graph(regions[truth], values)
    contracted = contract(hierarchy.graph, regions)
    assert np.array_equal(contracted.edges, merged.edges)
    assert np.allclose(contracted.boundary, merged.boundary)
    assert merged.boundary.min() >= 0.75  # nothing below the threshold is left
    stopped = agglomerate(hierarchy.graph, 0.75)
    assert np.array_equal(stopped.cut(0.75), regions)
    large = hierarchy.cut(0.0, minimum_size=200)[truth]
    assert np.bincount(large.ravel())[1:].min() >= 200


def test_boundary_of_affinities_is_both_sides_of_the_face() -> None:
    labels = np.ones((3, 4, 6), np.uint8)
    labels[:, :, 3:] = 2
    boundary = boundary_from_affinity(affinity_map(labels, noise=0, seed=0))
    assert np.array_equal(boundary, np.isin(np.arange(6), (2, 3)) * np.ones((3, 4, 1)))


def test_best_parameters_on_training_part(truth: np.ndarray) -> None:
    boundary = boundary_map(truth, noise=0.15, seed=6)
    found = best_parameters(boundary, truth, region=":,:,0:32", thresholds=(0.1, 0.4, 0.6))
    assert len(found.tried) == 6
    assert found.scores.adapted_rand_error == min(s.adapted_rand_error for _, s in found.tried)
    objects = segment_array(Probability(boundary[..., :32]), found.best)
    scores = evaluate(objects, truth[..., :32], relabel_components=True)
    assert scores.adapted_rand_error == pytest.approx(found.scores.adapted_rand_error)


def test_raw_watershed_finds_bright_cells_between_dark_membranes() -> None:
    truth = voronoi((30, 30, 30), 8, seed=2)
    image = np.uint8(200 - 150 * boundary_map(truth, noise=0.1, seed=3))
    objects = raw_watershed(image, sigma=1.5, depth=0.2)
    assert adapted_rand_error(truth, objects)[0] < 0.3
    planes = raw_watershed(image, sigma=1.5, depth=0.2, in_plane=True)
    assert planes[0].max() < planes[1].min()


def test_flat_maps() -> None:
    for value in (0.0, 1.0):
        flat = np.full((4, 8, 8), value, np.float32)
        assert np.array_equal(fragments(flat), np.ones(flat.shape))
        assert np.unique(fragments(flat, in_plane=True)).tolist() == [1, 2, 3, 4]
        objects = segment_array(Probability(flat), SegmentationParameters())
        assert np.array_equal(objects, np.ones(flat.shape))


def test_existing_output_is_kept_unless_told(tmp_path: Path, truth: np.ndarray) -> None:
    boundary = boundary_map(truth[:16], noise=0.1, seed=1)
    out = segment(boundary, tmp_path / "objects.zarr", progress=False)
    before = open_map(out).array[:]
    with pytest.raises(
        SegmentationError, match=r"exists already with threshold 0\.5, and this run has 0\.9"
    ):
        segment(boundary, out, threshold=0.9, progress=False)
    assert np.array_equal(open_map(out).array[:], before)
    segment(boundary, out, threshold=0.0, minimum_size=0, overwrite=True, progress=False)
    assert open_map(out).array[:].max() > before.max()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "today.txt").touch()
    with pytest.raises(SegmentationError, match="no segmentation"):
        segment(boundary, tmp_path / "notes", overwrite=True, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes", "objects.zarr"]


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (np.zeros((4, 3, 8, 8)), {}, "4 channels"),
        (np.zeros((2, 3, 8, 8)), {"kind": "affinity"}, "2 channels.*affinity"),
        (np.zeros((3, 3, 8, 8)), {"kind": "boundary"}, "3 channels.*boundary"),
        (np.zeros((8, 8)), {}, r"\(8, 8\)"),
        (np.zeros((1, 3, 8, 8)), {"kind": "cells"}, "'cells'"),
        (np.zeros((3, 8, 8)), {"threshold": 1.5}, "1.5"),
        (np.zeros((3, 8, 8)), {"minimum_size": -1}, "-1"),
        (np.zeros((3, 8, 8)), {"region": "0:4,:,:"}, "3 voxels"),
        (np.zeros((100, 8, 8)), {"block": (50, 8, 8)}, "block of .50, 8, 8. .* multiple of 64"),
        (np.zeros((100, 80, 80)), {"memory_limit": "1MB"}, "64x64x64 voxels needs about .* 1 MiB"),
        (np.zeros((3, 8, 8)), {"memory_limit": "much"}, "'much' is no amount"),
        ("absent.zarr", {}, "absent.zarr"),
    ],
)
def test_refusals_leave_nothing(
    tmp_path: Path, values: object, settings: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        segment(values, tmp_path / "objects.zarr", progress=False, **settings)
    assert not list(tmp_path.iterdir())


def test_map_that_is_no_probability(tmp_path: Path) -> None:
    with pytest.raises(SegmentationError, match="NaN"):
        segment(np.full((3, 8, 8), np.nan), tmp_path / "objects.zarr", progress=False)
    with pytest.raises(VolumeError):
        open_map(tmp_path / "objects.zarr")


def test_prediction_of_a_part_is_placed_by_its_position(tmp_path: Path, truth: np.ndarray) -> None:
    boundary = boundary_map(truth, noise=0.1, seed=1)
    levels = np.uint8(np.round(200 * boundary[4:36, 6:40, 2:44]))[None]
    source = store_map(tmp_path / "boundary.zarr", levels, position=(4, 6, 2), scale=1 / 200)
    out = segment(source, tmp_path / "objects.zarr", region="3:30,:,:", progress=False)
    assert open_map(out).offset == (7, 6, 2)
    objects = open_map(out).array[:]
    assert objects.shape == (27, 34, 42)
    placed = evaluate(out, truth)
    assert placed == evaluate(objects, truth[7:34, 6:40, 2:44])
    assert placed.adapted_rand_error < 0.1
    inner = evaluate(out, truth, region="10:20,10:30,10:30")
    assert inner == evaluate(objects[3:13, 4:24, 8:28], truth[10:20, 10:30, 10:30])
    with pytest.raises(SegmentationError, match=r"covers 7:34,6:40,2:44 .*not 0:20,0:44"):
        evaluate(out, truth, region="0:20,:,:")
    assert evaluate(out, truth[7:34, 6:40, 2:44]) == placed  # a crop without a position
    found = best_parameters(
        source, truth, region="7:34,6:40,2:44", thresholds=[0.5], seed_thresholds=[0.5]
    )
    assert found.scores.adapted_rand_error == pytest.approx(
        evaluate(out, truth, relabel_components=True).adapted_rand_error
    )


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    zarr.open_group(str(tmp_path / "volume.zarr"), mode="w").create_group("labels")
    with pytest.raises(VolumeError, match="no image"):
        open_map(tmp_path / "volume.zarr")
    with pytest.raises(SegmentationError, match="None is no array"):
        open_map(None)


def test_real_tissue_with_simulated_boundaries(shared: Path) -> None:
    labels = tifffile.imread(shared / "data" / "fib25" / "dev_labels.tif")[:80, :80, 170:]
    boundary = boundary_map(labels, noise=0.1, seed=1)
    objects = segment_array(Probability(boundary), SegmentationParameters())
    scores = evaluate(objects, labels, relabel_components=True)
    assert scores.adapted_rand_error < 0.15
    assert scores.vi < 1.2
