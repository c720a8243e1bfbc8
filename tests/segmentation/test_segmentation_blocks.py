"""Objects are the same bits however the volume is cut, and whoever computes them."""

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from truth import affinity_map, boundary_map, voronoi

from znn_dask.data.metadata import VolumeError
from znn_dask.segmentation import (
    SegmentationError,
    SegmentationParameters,
    agglomerate,
    fragments,
    region_graph,
    segment,
)
from znn_dask.segmentation.distance import capped_distance
from znn_dask.segmentation.grid import Grid, grown
from znn_dask.segmentation.maps import Probability, boundary_from_affinity, open_map
from znn_dask.segmentation.need import Need
from znn_dask.segmentation.segment import segment_array
from znn_dask.segmentation.watershed import PASSED_ON, Landscape, block_fragments

SHAPE = (40, 70, 130)


@pytest.fixture(scope="module")
def boundary() -> np.ndarray:
    values = boundary_map(voronoi(SHAPE, 30, seed=3), noise=0.2, seed=4)
    values[8:36, 20:66, 40:110] = 0  # a cell body: a flat summit over many blocks
    return values


@pytest.fixture(scope="module")
def expected(boundary: np.ndarray) -> np.ndarray:
    return segment_array(Probability(boundary), SegmentationParameters())


@pytest.fixture
def stored(tmp_path: Path, boundary: np.ndarray) -> str:
    place = str(tmp_path / "map.zarr")
    zarr.create_array(place, shape=SHAPE, chunks=(64, 64, 64), dtype="float32")[:] = boundary
    return place


def stitched(boundary: np.ndarray, block: tuple[int, int, int], landscape: Landscape) -> np.ndarray:
    """Fragments by blocks, joined by their links."""
    world = boundary.shape
    names, links = np.zeros(world, np.int64), []
    grid = Grid(world, block)
    for k in range(len(grid)):
        box = grid.at(k)
        around = grown(box, landscape.halo, world)
        found = block_fragments(boundary[around], around, box, world, landscape)
        names[box] = found.names[found.ids - 1]
        links.append(found.links)
    every, where = np.unique(names, return_inverse=True)
    name, voxel = np.concatenate(links).T
    pairs = (np.searchsorted(every, name), np.searchsorted(every, names.ravel()[voxel]))
    joined = coo_array((np.ones(len(name)), pairs), shape=(len(every), len(every)))
    _, component = connected_components(joined, directed=False)
    least = np.full(component.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(least, component, every)
    assert least.max() < PASSED_ON
    _, ids = np.unique(least[component], return_inverse=True)
    return (ids[where] + 1).reshape(world)


@settings(max_examples=12, deadline=None)
@given(
    block=st.tuples(*(st.integers(5, 40) for _ in range(3))),
    seed=st.integers(0, 5),
    levels=st.sampled_from([0, 3, 255]),
    in_plane=st.booleans(),
    voxel=st.sampled_from([(1.0, 1.0, 1.0), (4.0, 1.0, 1.0), (1.0, 1.3, 2.7)]),
)
def test_fragments_do_not_depend_on_blocks(block, seed, levels, in_plane, voxel) -> None:
    boundary = boundary_map(voronoi((30, 36, 41), 9, seed=seed), noise=0.2, seed=seed)
    boundary[5:25, 5:30, 8:36] *= seed % 2  # flat
    if levels:
        boundary = np.float32(np.round(boundary * levels) / levels)  # many equal values
    landscape = Landscape(0.5, 0.5 * (seed % 3), 2.0, voxel, in_plane)
    whole = fragments(boundary, smoothing=landscape.smoothing, voxel_size=voxel, in_plane=in_plane)
    least = min(voxel[1:]) if in_plane else min(voxel)
    sampling = tuple(v / least for v in voxel)
    landscape = Landscape(0.5, landscape.smoothing, 2.0, sampling, in_plane)
    assert np.array_equal(stitched(boundary, block, landscape), whole)


def test_capped_distance_is_the_distance_up_to_the_reach() -> None:
    from scipy import ndimage

    inside = np.random.default_rng(0).random((20, 30, 40)) < 0.995
    for sampling in ((1.0, 1.0, 1.0), (3.0, 1.5, 1.0)):
        exact = ndimage.distance_transform_edt(inside, sampling=sampling)
        found = capped_distance(inside, sampling, 6.0)
        assert np.allclose(found, np.minimum(exact, 6.0), atol=1e-5)
    plane = capped_distance(inside, (1.0, 1.0, 1.0), 6.0, in_plane=True)
    slices = [ndimage.distance_transform_edt(z) if not z.all() else z * 9.0 for z in inside]
    assert np.allclose(plane, np.minimum(slices, 6.0), atol=1e-5)


def direct_agglomeration(graph, threshold: float) -> np.ndarray:
    """Merge the least contact, over and over."""
    of = {
        (int(u), int(v)): (int(s), int(f))
        for (u, v), s, f in zip(graph.edges, graph.levels, graph.faces, strict=True)
    }
    region = np.arange(len(graph.sizes))
    while of:
        mean, (u, v) = min((s / f, pair) for pair, (s, f) in of.items())
        if mean >= threshold * 65535:
            break
        region[region == u] = v
        merged: dict[tuple[int, int], tuple[int, int]] = {}
        for pair, (s, f) in of.items():
            a, b = (v if end == u else end for end in pair)
            if a != b:
                known = merged.get((min(a, b), max(a, b)), (0, 0))
                merged[min(a, b), max(a, b)] = (known[0] + s, known[1] + f)
        of = merged
    _, region = np.unique(region, return_inverse=True)
    return region


@pytest.mark.parametrize("few", [0.001, 50])
def test_merging_many_at_once_is_merging_one_by_one(few, monkeypatch) -> None:
    module = importlib.import_module("znn_dask.segmentation.agglomerate")
    monkeypatch.setattr(module, "_FEW", few)
    for seed in range(3):
        labels = voronoi((16, 16, 16), 90, seed=seed)
        values = np.round(np.random.default_rng(seed).random(labels.shape) * 4) / 4  # ties
        graph = region_graph(labels, Probability(np.float32(values)))
        found = agglomerate(graph, 0.72).cut(0.72)
        wanted = direct_agglomeration(graph, 0.72)
        assert 1 < wanted.max() < 89
        pairs = np.unique(np.stack([found, wanted]), axis=1)
        assert pairs.shape[1] == found.max() + 1 == wanted.max() + 1


@pytest.mark.parametrize("kind", ["boundary", "affinity", "in plane", "region"])
def test_every_block_gives_the_same_bits(tmp_path: Path, boundary: np.ndarray, kind: str) -> None:
    values, settings_ = boundary, {}
    region = (slice(None),) * 3
    if kind == "affinity":
        values = affinity_map(voronoi(SHAPE, 30, seed=3), noise=0.3, seed=4)
    elif kind == "in plane":
        settings_ = {"in_plane": True}
    elif kind == "region":
        settings_ = {"region": "3:40,0:69,1:130"}
        region = (slice(3, 40), slice(0, 69), slice(1, 130))
    if kind == "affinity":
        probability = Probability(boundary_from_affinity(values), values)
    else:
        probability = Probability(values[region])
    parameters = SegmentationParameters(
        threshold=0.3 if kind == "affinity" else 0.5, in_plane=kind == "in plane"
    )
    wanted = segment_array(probability, parameters)
    assert wanted.max() > 5
    for number, block in enumerate([(64, 64, 64), (40, 70, 128)]):
        out = segment(
            values,
            tmp_path / f"{number}.zarr",
            block=block,
            threads=1 + number,
            progress=False,
            **settings_,
        )
        assert np.array_equal(open_map(out).array[:], wanted)
        assert not (tmp_path / f"{number}.zarr" / ".znn").exists()


def test_object_store(boundary: np.ndarray, expected: np.ndarray) -> None:
    out = segment(boundary, "memory://lab/objects.zarr", block=(64, 64, 64), progress=False)
    group = zarr.open_group(out, mode="r")
    assert np.array_equal(group["0"][:], expected)
    assert "1" in group
    assert ".znn" not in group
    with pytest.raises(SegmentationError, match="exists already with threshold"):
        segment(boundary, "memory://lab/objects.zarr", threshold=0.1, progress=False)
    segment(boundary[:20], "memory://lab/objects.zarr", overwrite=True, progress=False)
    assert open_map(out).shape == (20, 70, 130)


def test_memory_is_planned(boundary: np.ndarray, tmp_path: Path) -> None:
    need = Need((1000, 1000, 1000), 1, Landscape())
    for memory in (200, 500, 4000):
        block = need.choose(2, memory << 20)
        assert need.bytes(block) <= memory << 19 or block == (64, 64, 64)
        assert need.lanes(block, 2, memory << 20) >= 1
    assert need.choose(2, 4000 << 20) != need.choose(2, 200 << 20)
    with pytest.raises(SegmentationError, match="MiB and 10 MiB may be used"):
        need.choose(2, 10 << 20)
    begin_and_stop(boundary, tmp_path / "o.zarr")
    with pytest.raises(SegmentationError, match=r"was begun with blocks of \(40, 64, 64\)"):
        segment(boundary, tmp_path / "o.zarr", block=SHAPE, progress=False)


def begin_and_stop(boundary: np.ndarray, out: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("znn_dask.segmentation.job.Job.find", _stop)
        with pytest.raises(InterruptedError):
            segment(boundary, out, block=(64, 64, 64), progress=False)


def _stop(*unused: object) -> None:
    raise InterruptedError


VICTIM = """
import sys, time
from znn_dask.segmentation import segment
from znn_dask.segmentation.job import Job
stage, source, out = sys.argv[1:]
whole = getattr(Job, stage)
def slow(self, index):
    time.sleep(0.3)
    whole(self, index)
setattr(Job, stage, slow)
segment(source, out, block=(64, 64, 64), progress=False)
"""


def parts(out: Path, stage: str) -> int:
    return len(list(out.glob(f".znn/{stage}/0*.npz")))


def test_killed_anywhere_and_run_again(tmp_path: Path, stored: str, expected: np.ndarray) -> None:
    out = tmp_path / "objects.zarr"
    for method, stage in (("find", "named"), ("touch", "contacts"), ("write", "written")):
        process = subprocess.Popen(
            [sys.executable, "-c", VICTIM, method, stored, str(out)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        deadline = time.monotonic() + 60
        while parts(out, stage) < 2:
            assert process.poll() is None, "the victim ended too early"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        with pytest.raises(VolumeError):
            open_map(out)
    kept = {p: p.stat().st_mtime_ns for p in out.glob(".znn/named/0*.npz")}
    assert len(kept) == 6
    assert parts(out, "written") < 6
    written = []
    with pytest.MonkeyPatch.context() as patch:
        from znn_dask.segmentation.job import Job

        whole = Job.run
        patch.setattr(Job, "run", lambda job, *at: (written.append(at), whole(job, *at)))
        segment(stored, out, progress=False)
    assert {stage for stage, _ in written} == {"written"}
    assert 0 < len(written) <= 4
    assert np.array_equal(open_map(out).array[:], expected)
    assert segment(stored, out, progress=False) == str(out)  # complete: nothing is left to do


@pytest.mark.cluster
def test_workers_of_a_cluster_one_of_which_is_killed(
    tmp_path: Path, stored: str, boundary: np.ndarray, expected: np.ndarray
) -> None:
    out = tmp_path / "objects.zarr"
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        with pytest.raises(SegmentationError, match="workers cannot read"):
            segment(boundary, out, client=client)
        pids = list(client.run(os.getpid).values())

        def kill() -> None:
            while parts(out, "named") < 2:
                time.sleep(0.005)
            os.kill(pids[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        segment(stored, out, client=client, block=(64, 64, 64), progress=False)
        killer.join()
        assert np.array_equal(open_map(out).array[:], expected)
        assert set(client.run(os.getpid).values()) != set(pids)
