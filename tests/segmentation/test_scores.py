"""Scores against scikit-image, hand-made cases and streaming."""

import json
from pathlib import Path

import cc3d
import numpy as np
import pytest
import zarr
from skimage.metrics import adapted_rand_error, variation_of_information
from truth import voronoi

from znn_dask.segmentation import Scores, SegmentationError, evaluate


def random_pair(seed: int, shape: tuple[int, int, int] = (9, 14, 11)) -> tuple:
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 7, shape), np.ones((2, 3, 2), int)).astype(np.uint16)
    objects = np.where(rng.random(truth.shape) < 0.8, truth * 3, rng.integers(0, 9, truth.shape))
    return objects.astype(np.uint32), truth


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_image(seed: int) -> None:
    objects, truth = random_pair(seed)
    scores = evaluate(objects, truth, block=(4, 20, 9))
    # scikit-image returns recall before precision, against its documentation (its issue 6485)
    error, recall, precision = adapted_rand_error(truth, objects)
    split, merge = variation_of_information(truth, objects, ignore_labels=(0,))
    assert scores.adapted_rand_error == pytest.approx(error, abs=1e-12)
    assert scores.precision == pytest.approx(precision, abs=1e-12)
    assert scores.recall == pytest.approx(recall, abs=1e-12)
    assert scores.vi_split == pytest.approx(split, abs=1e-12)
    assert scores.vi_merge == pytest.approx(merge, abs=1e-12)
    assert scores.voxels == truth.size
    assert scores.foreground == np.count_nonzero(truth)
    assert scores.unlabelled == np.count_nonzero((truth > 0) & (objects == 0))
    assert scores.labels == 6


def test_perfect_split_and_merge() -> None:
    truth = np.repeat(np.array([1, 2], np.uint8), 8).reshape(1, 4, 4)
    perfect = evaluate(truth + 5, truth)
    assert (perfect.adapted_rand_error, perfect.vi_split, perfect.vi_merge) == (0, 0, 0)
    merged = evaluate(np.ones_like(truth), truth)
    assert (merged.recall, merged.vi_split, merged.vi_merge) == (1, 0, 1)
    halves = np.repeat(np.arange(1, 5, dtype=np.uint64) << np.uint64(40), 4).reshape(1, 4, 4)
    split = evaluate(halves, truth)
    assert (split.precision, split.vi_split, split.vi_merge) == (1, 1, 0)


def test_what_object_zero_counts_as() -> None:
    truth = np.ones((1, 4, 4), np.uint8)
    objects = truth.copy()
    objects[0, 0] = 0
    one = evaluate(objects, truth)
    assert one.recall == pytest.approx((12 * 11 + 4 * 3) / (16 * 15))
    alone = evaluate(objects, truth, unlabelled="singletons")
    assert alone.recall == pytest.approx(12 * 11 / (16 * 15))
    expected = -(12 / 16) * np.log2(12 / 16) - 4 * (1 / 16) * np.log2(1 / 16)
    assert alone.vi_split == pytest.approx(expected)
    numbered = objects.copy()
    numbered[0, 0] = np.arange(2, 6)
    assert evaluate(numbered, truth).vi_split == pytest.approx(alone.vi_split)
    ignored = evaluate(objects, truth, unlabelled="ignore")
    assert (ignored.adapted_rand_error, ignored.foreground, ignored.unlabelled) == (0, 12, 4)


@pytest.mark.parametrize("block", [(1, 1, 1), (4, 3, 5), (13, 2, 9), (20, 20, 20)])
def test_components_across_blocks_match_whole_volume(block: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, (13, 8, 9)).astype(np.uint16)  # tangled components
    objects = rng.integers(1, 4, truth.shape).astype(np.uint32)
    whole = cc3d.connected_components(truth, connectivity=26)
    streamed = evaluate(objects, truth, relabel_components=True, block=block)
    assert streamed == evaluate(objects, whole)
    sizes = np.bincount(whole.ravel())
    without_dust = np.where(sizes[whole] < 5, 0, whole)
    streamed = evaluate(objects, truth, relabel_components=True, dust=5, block=block)
    assert streamed == evaluate(objects, without_dust)


@pytest.mark.parametrize("block", [(1, 2, 3), (2, 5, 4)])
def test_slices_across_blocks_match_whole_slices(block: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(5)
    truth, objects = (rng.integers(0, 3, (3, 11, 12)).astype(np.uint16) for _ in range(2))
    whole = evaluate(objects, truth, in_plane=True, dust=3)
    blocks = evaluate(objects, truth, in_plane=True, dust=3, block=block, threads=3)
    assert whole.labels == blocks.labels
    assert whole.to_json() == blocks.to_json()


def test_in_plane_splits_slices_and_masks() -> None:
    mask = np.full((2, 6, 6), 255, np.uint8)
    mask[:, :, 3] = 0
    columns = np.zeros(mask.shape, np.uint32)
    columns[:, :, :3], columns[:, :, 3:] = 1, 2  # one object runs through both slices
    scores = evaluate(columns, mask, in_plane=True)
    assert (scores.adapted_rand_error, scores.objects, scores.labels) == (0, 4, 4)
    assert scores.foreground == 60


def test_boundary_voxels_can_be_left_out() -> None:
    truth = voronoi((12, 20, 20), 6, seed=1)
    moved = np.roll(truth, 1, axis=2)
    moved[..., 0] = truth[..., 0]
    assert evaluate(moved, truth).adapted_rand_error > 0.01
    for block in ((2, 7, 20), (5, 5, 5), (12, 20, 20)):
        near = evaluate(moved, truth, ignore_boundary=2, block=block)
        assert near.adapted_rand_error == 0
    assert near == evaluate(moved, truth, ignore_boundary=2)


def test_region_cuts_labels_and_objects(tmp_path: Path) -> None:
    objects, truth = random_pair(8)
    stored = zarr.create_array(
        str(tmp_path / "truth.zarr"), shape=truth.shape, dtype=truth.dtype, chunks=(5, 8, 8)
    )
    stored[:] = truth
    box = (slice(3, 15), slice(None), slice(4, 20))
    expected = evaluate(objects[box], truth[box])
    path = str(tmp_path / "truth.zarr")
    assert evaluate(objects, path, region="3:15,:,4:20") == expected
    assert evaluate(objects[box], stored, region=box) == expected


def test_scores_as_json(tmp_path: Path) -> None:
    objects, truth = random_pair(2)
    scores = evaluate(objects, truth)
    read = json.loads(scores.write(tmp_path / "scores.json").read_text())
    assert read.pop("vi") == pytest.approx(scores.vi_split + scores.vi_merge)
    assert Scores(**read) == scores
    assert f"{scores.adapted_rand_error:.4f}" in str(scores)
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.ones((2, 3, 5), np.uint8)}, r"\(2, 3, 4\).*\(2, 3, 5\)"),
        ({"labels": np.zeros((2, 3, 4), np.uint8)}, "no foreground"),
        ({"labels": np.ones((2, 3, 4), np.float32)}, "float32"),
        ({"region": "0:9,:,:"}, "0:9.*2 voxels"),
        ({"region": "0:2,:"}, "three ranges"),
        ({"dust": 5}, "relabel_components"),
    ],
)
def test_refusals(change: dict, message: str) -> None:
    arguments = {"objects": np.ones((2, 3, 4), np.uint32), "labels": np.ones((2, 3, 4), np.uint8)}
    with pytest.raises(SegmentationError, match=message):
        evaluate(**(arguments | change))
