"""Skeletons of a tube, a fork and a ring."""

from pathlib import Path

import numpy as np
import pytest
from shapes import distances, some_objects

from znn_dask.neurons import NeuronError, skeletonize

FORK = (((20, 8, 20), (20, 60, 20)), ((20, 60, 20), (20, 100, 50)), ((20, 60, 20), (20, 100, -10)))


def fork() -> np.ndarray:
    """(40, 110, 80) uint8: a stem of 52 voxels and two branches of 50, 5 voxels thick."""
    shape, shift = (40, 110, 80), np.array((0, 0, 20))
    lines = [distances(shape, tuple(a + shift), tuple(b + shift)) for a, b in FORK]
    objects: np.ndarray = (np.min(lines, axis=0) < 5).astype(np.uint8)
    return objects


def test_a_tube(tmp_path: Path) -> None:
    """100 voxels of 10 nm, aslant, 6 voxels thick: 1 µm."""
    start, end = np.array((20, 20, 20)), np.array((20 + 48, 20 + 60, 20 + 64))
    tube = distances((90, 100, 105), tuple(start), tuple(end)) < 6
    found = skeletonize(
        tube.astype(np.uint8), tmp_path / "s", voxel_size=(10, 10, 10), progress=False
    )[1]
    assert (found.ends, found.branchings) == (2, 0)
    # It reaches into the round caps at both ends, at most 60 nm each.
    assert 0.98 < found.length < 1.14
    inner = found.vertices[len(found.vertices) // 4 : -len(found.vertices) // 4] / 10
    middle = np.linalg.norm(np.cross(inner - start[::-1], (end - start)[::-1]), axis=1) / 100
    assert middle.max() < 2
    assert np.median(found.radii) == pytest.approx(60, abs=12)


@pytest.mark.parametrize("format", ["swc", "precomputed"])
def test_a_fork(format: str, tmp_path: Path) -> None:
    found = skeletonize(
        fork(),
        tmp_path / "s",
        voxel_size=(20, 20, 20),
        resolution=20,
        format=format,
        block=(16, 50, 33),
        progress=False,
    )[1]
    assert (found.ends, found.branchings) == (3, 1)
    lines = (52 + 50 + 50) * 0.02
    caps = 3 * 5 * 0.02  # round ends, into which it may reach
    assert 0.98 * lines < found.length < 1.02 * (lines + caps)
    assert (found.parents < 0).sum() == 1
    centre = found.vertices[np.bincount(found.edges.ravel()) > 2][0] / 20
    np.testing.assert_allclose(centre, (40, 60, 20), atol=5)  # x, y, z


def test_the_same_for_all_blocks(tmp_path: Path) -> None:
    objects = some_objects()
    whole = skeletonize(objects, tmp_path / "whole", shortest=5, progress=False)
    parts = skeletonize(objects, tmp_path / "parts", shortest=5, block=(9, 7, 38), progress=False)
    assert list(parts) == list(whole)
    for number, one in whole.items():
        np.testing.assert_array_equal(parts[number].vertices, one.vertices)
        np.testing.assert_array_equal(parts[number].parents, one.parents)


def test_swc_is_in_micrometres(tmp_path: Path) -> None:
    found = skeletonize(fork(), tmp_path / "s", voxel_size=(20, 20, 20), progress=False)[1]
    lines = (tmp_path / "s" / "1.swc").read_text().splitlines()
    rows = np.array([line.split() for line in lines if not line.startswith("#")], float)
    assert rows[0, 6] == -1
    assert (rows[1:, 6] < rows[1:, 0]).all()  # parents come first, as some readers want
    np.testing.assert_allclose(rows[:, 2:5] * 1000, found.vertices, atol=0.02)


def test_what_cannot_be_skeletonized(tmp_path: Path) -> None:
    with pytest.raises(NeuronError, match="shortest -1 is negative"):
        skeletonize(fork(), tmp_path / "s", shortest=-1, progress=False)
    with pytest.raises(NeuronError, match="no skeleton format 'obj'"):
        skeletonize(fork(), tmp_path / "s", format="obj", progress=False)  # type: ignore[arg-type]
