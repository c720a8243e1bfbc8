"""Collecting objects from blocks: interrupted, continued, and on the workers of a cluster."""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from shapes import some_objects, write_objects

from znn_dask.cluster.local import local_cluster
from znn_dask.neurons import NeuronError, mesh, skeletonize
from znn_dask.neurons.mesh import Mesher

SETTINGS = {"simplify": 1, "smooth": 0, "block": (16, 16, 16), "progress": False}


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = some_objects()
    whole = dict(mesh(objects, tmp_path / "whole", **SETTINGS))
    seen: list[tuple[str, object]] = []
    pieces, make = Mesher.pieces, Mesher.make

    def counted_pieces(self, objects, block, ids):  # type: ignore[no-untyped-def]
        seen.append(("block", block))
        return pieces(self, objects, block, ids)

    def broken(self, objects, number, found, folder):  # type: ignore[no-untyped-def]
        if number == 6:
            raise OSError("no space left")
        make(self, objects, number, found, folder)

    monkeypatch.setattr(Mesher, "pieces", counted_pieces)
    monkeypatch.setattr(Mesher, "make", broken)
    with pytest.raises(
        NeuronError, match=r"making object 6 failed with OSError: no space left; .* run again"
    ):
        mesh(objects, tmp_path / "m", **SETTINGS)
    blocks = len(seen)
    assert blocks == 2 * 3 * 3
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "m").glob("*.mesh")}
    monkeypatch.setattr(Mesher, "make", make)
    found = dict(mesh(objects, tmp_path / "m", **SETTINGS))
    assert len(seen) == blocks  # the pieces of blocks were kept
    for name, written in before.items():
        assert (tmp_path / "m" / name).stat().st_mtime_ns == written
    for number, one in whole.items():
        np.testing.assert_array_equal(found[number].faces, one.faces)
    mesh(objects, tmp_path / "m", **SETTINGS)
    assert len(seen) == blocks  # all is there
    assert not list((tmp_path / "m").glob(".*"))


class Watched:
    """An array that remembers how many voxels were read at a time."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.most = 0

    def __getitem__(self, where: tuple[slice, ...]) -> np.ndarray:
        part = self._array[where]
        self.most = max(self.most, part.size)
        return part


def test_never_more_than_a_block_is_read(tmp_path: Path) -> None:
    watched = Watched(some_objects())
    settings = {"block": (8, 8, 8), "progress": False}
    mesh(watched, tmp_path / "m", **settings)
    assert 8**3 < watched.most <= 10**3  # with the voxels between blocks
    watched.most = 0
    skeletonize(watched, tmp_path / "s", **settings)
    assert watched.most <= 10**3


def test_after_a_kill_it_goes_on(tmp_path: Path) -> None:
    objects = some_objects()
    source, out = write_objects(tmp_path / "v.zarr", objects), tmp_path / "m"
    settings = {**SETTINGS, "block": (6, 6, 6)}
    code = f"import znn_dask\nznn_dask.mesh({source!r}, {str(out)!r}, **{settings!r})"
    process = subprocess.Popen([sys.executable, "-c", code])
    while len(list(out.glob(".pieces-*/*.npz"))) < 5 and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.wait()
    (out / ".0.partial.1.mesh").write_bytes(b"half")
    found = dict(mesh(source, out, **settings))
    assert not list(out.glob(".*"))
    whole = dict(mesh(source, tmp_path / "whole", **SETTINGS))
    assert found.keys() == whole.keys()
    for number, one in whole.items():
        np.testing.assert_array_equal(found[number].vertices, one.vertices)
        np.testing.assert_array_equal(found[number].faces, one.faces)


def test_other_objects_or_settings_are_refused(tmp_path: Path) -> None:
    objects = some_objects()
    mesh(objects, tmp_path / "m", ids=[1], **SETTINGS)
    changed = {**SETTINGS, "smooth": 3}
    with pytest.raises(NeuronError, match="has smooth 0, asked for is 3; choose another folder"):
        mesh(objects, tmp_path / "m", ids=[2], **changed)
    with pytest.raises(NeuronError, match="has meshes of objects that were at array before"):
        mesh(objects + np.uint32(1), tmp_path / "m", ids=[2], **SETTINGS)
    with pytest.raises(NeuronError, match="kind meshes, asked for is skeletons"):
        skeletonize(objects, tmp_path / "m", progress=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "record.json").write_text('{"mine": 1}')
    with pytest.raises(NeuronError, match="other has made None"):
        mesh(objects, tmp_path / "other", overwrite=True, **SETTINGS)
    assert list(mesh(objects, tmp_path / "m", ids=[2], overwrite=True, **changed)) == [2]


@pytest.mark.cluster
def test_workers_make_the_same(tmp_path: Path) -> None:
    objects = some_objects()
    source = write_objects(tmp_path / "v.zarr", objects, (30, 8, 8), offset=(1, 2, 3))
    here = dict(mesh(source, tmp_path / "here", **SETTINGS))
    with local_cluster(1, workers=2, processes=True, dashboard=False) as client:
        there = dict(mesh(source, tmp_path / "there", client=client, **SETTINGS))
        with pytest.raises(NeuronError, match=re.escape("an array in memory")):
            mesh(objects, tmp_path / "memory", client=client, **SETTINGS)
    assert here.keys() == there.keys()
    for number, one in here.items():
        np.testing.assert_array_equal(there[number].vertices, one.vertices)
    low = np.min([one.vertices.min(axis=0) for one in here.values()], axis=0)
    np.testing.assert_array_equal(low, (3 * 8, 2 * 8, 1 * 30))  # the offset, in x, y, z
