"""Meshes of objects: closed, of the right size, the same whatever the blocks are."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from shapes import ball, some_objects

from znn_dask.neurons import Mesh, NeuronError, mesh
from znn_dask.neurons.mesh_files import FORMATS


def made(objects: np.ndarray, folder: Path, **settings: object) -> dict[int, Mesh]:
    chosen = {"simplify": 1, "smooth": 0, "progress": False} | settings
    return dict(mesh(objects, folder, **chosen))  # type: ignore[arg-type]


def manifold(found: Mesh) -> bool:
    """Whether every edge lies between two triangles, which run along it in opposite senses."""
    f = found.faces
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    return found.closed and len(np.unique(edges, axis=0)) == len(edges)


def test_a_ball(tmp_path: Path) -> None:
    radius = 15
    objects = 5 * ball((40, 40, 40), (20, 20, 20), radius).astype(np.uint16)
    size = (20.0, 10.0, 5.0)
    rough = made(objects, tmp_path / "rough", voxel_size=size)[5]
    assert manifold(rough)
    assert rough.euler == 2
    voxels = int((objects > 0).sum())
    assert rough.volume == pytest.approx(voxels * 1000, rel=0.01)
    middle = (rough.vertices.min(axis=0) + rough.vertices.max(axis=0)) / 2
    np.testing.assert_allclose(middle, (100, 200, 400))  # x, y, z
    np.testing.assert_allclose(np.ptp(rough.vertices, axis=0), 30 * np.array(size[::-1]))
    smooth = made(objects, tmp_path / "smooth", smooth=10, voxel_size=(10, 10, 10))[5]
    assert smooth.closed
    assert smooth.area == pytest.approx(4 * np.pi * (10 * radius) ** 2, rel=0.025)
    assert smooth.volume == pytest.approx(voxels * 1000, rel=0.01)
    few = made(objects, tmp_path / "few", smooth=10, simplify=10, voxel_size=(10, 10, 10))[5]
    assert len(few.faces) == pytest.approx(len(smooth.faces) / 10, rel=0.02)
    assert few.closed
    assert few.area == pytest.approx(4 * np.pi * (10 * radius) ** 2, rel=0.03)
    assert few.volume == pytest.approx(voxels * 1000, rel=0.02)


def test_a_ring_has_a_hole(tmp_path: Path) -> None:
    z, y, x = np.indices((12, 40, 40))
    ring = (z - 6) ** 2 + (np.hypot(y - 20, x - 20) - 12) ** 2 < 16
    found = made(ring.astype(np.uint8), tmp_path / "ring", block=(5, 16, 16))[1]
    assert found.closed
    assert found.euler == 0


def test_the_same_for_all_blocks_and_closed_at_the_border(tmp_path: Path) -> None:
    objects = some_objects()
    whole = made(objects, tmp_path / "whole")
    assert sorted(whole) == np.unique(objects[objects > 0]).tolist()
    assert all(manifold(m) for m in whole.values())
    for block in ((8, 8, 8), (7, 34, 5), (29, 33, 37)):
        parts = made(objects, tmp_path / str(block), block=block)
        assert parts.keys() == whole.keys()
        for number, found in parts.items():
            np.testing.assert_array_equal(found.vertices, whole[number].vertices)
            np.testing.assert_array_equal(found.faces, whole[number].faces)
    # Objects fill the volume: their surfaces at its border lie on the border.
    ends = np.array([m.vertices for m in whole.values()], dtype=object)
    assert np.concatenate(ends).min() == 0
    np.testing.assert_array_equal(np.concatenate(ends).max(axis=0), objects.shape[::-1])


def test_single_voxels_and_diagonal_ones(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((14, 14, 14))
    for share in (0.03, 0.3, 0.5, 0.8):
        objects = (noise < share).astype(np.uint8)
        found = made(objects, tmp_path / str(share), block=(6, 6, 6))[1]
        assert manifold(found)
        assert found.volume > 0


def test_which_objects(tmp_path: Path) -> None:
    objects = some_objects()
    ids, sizes = np.unique(objects[objects > 0], return_counts=True)
    ranked = ids[np.argsort(-sizes, kind="stable")].tolist()
    assert list(made(objects, tmp_path / "a", largest=3)) == ranked[:3]
    assert list(made(objects, tmp_path / "b", minimum_size=int(sizes.max()))) == ranked[:1]
    found = mesh(objects, tmp_path / "c", ids=[7, 2], simplify=1, progress=False)
    assert sorted(found) == [2, 7]
    assert found.voxels(7) == (objects == 7).sum()


@pytest.mark.parametrize("format", FORMATS)
def test_formats_hold_the_same(format: str, tmp_path: Path) -> None:
    if format != "precomputed":
        pytest.importorskip("trimesh")
    objects = some_objects()
    plain = made(objects, tmp_path / "plain", ids=[4], smooth=2)[4]
    other = made(objects, tmp_path / "other", ids=[4], smooth=2, format=format)[4]
    np.testing.assert_allclose(other.vertices, plain.vertices, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(other.faces, plain.faces)
    assert other.closed


def test_neuroglancers_files(tmp_path: Path) -> None:
    made(some_objects(), tmp_path / "m", ids=[4])
    assert json.loads((tmp_path / "m" / "info").read_text()) == {
        "@type": "neuroglancer_legacy_mesh"
    }
    fragment = json.loads((tmp_path / "m" / "4:0").read_text())["fragments"][0]
    content = (tmp_path / "m" / fragment).read_bytes()
    count = int.from_bytes(content[:4], "little")
    faces = np.frombuffer(content, "<u4", offset=4 + 12 * count)
    assert len(faces) % 3 == 0
    assert faces.max() == count - 1


def test_what_cannot_be_meshed(tmp_path: Path) -> None:
    objects = some_objects()
    for wrong, message in (
        ({"ids": [99]}, "no object 99: the 12 objects have ids from 1 to 12"),
        ({"minimum_size": 10**6}, "no object has 1000000 voxels, the largest of 12 has"),
        ({"simplify": 0.5}, "simplify 0.5 is below 1"),
        ({"largest": 0}, "largest 0 objects are none"),
        ({"format": "stl"}, "no mesh format 'stl'"),
        ({"block": (0, 1, 1)}, "is not three positive numbers"),
    ):
        with pytest.raises(NeuronError, match=message):
            made(objects, tmp_path / "m", **wrong)
    with pytest.raises(NeuronError, match="holds float64 of shape"):
        made(np.zeros((4, 4, 4)), tmp_path / "m")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(NeuronError, match="holds other files"):
        made(objects, tmp_path / "full", overwrite=True)
    assert (tmp_path / "full" / "letter.txt").exists()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    with pytest.raises(ImportError, match=r"fast-simplification; run: pip install 'znn-dask\[neu"):
        made(some_objects(), tmp_path / "m", simplify=2)
    assert made(some_objects(), tmp_path / "m", ids=[3])
