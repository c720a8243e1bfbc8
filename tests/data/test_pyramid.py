import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from znn_dask.cluster.local import local_cluster
from znn_dask.data.boxes import cubes, rows
from znn_dask.data.metadata import VolumeError, parse_multiscales
from znn_dask.data.pyramid import build_pyramid
from znn_dask.data.reduction import halvings, reduced
from znn_dask.data.volume import create_image, open_volume


def test_anisotropic_voxels_are_first_reduced_in_plane():
    assert halvings((100, 1000, 1000), (30, 4, 4)) == [(1, 2, 2)] * 3 + [(2, 2, 2)]
    assert halvings((64, 64, 64), (1, 1, 1)) == []
    assert halvings((65, 64, 64), (1, 1, 1)) == [(2, 2, 2)]
    assert halvings((1, 200, 100), (1, 1, 1)) == [(1, 2, 2)] * 2
    assert halvings((200, 10, 10), (30, 1, 1))[-1] == (2, 1, 1)  # nothing left to halve in plane


def test_mean_and_mode_by_definition():
    rng = np.random.default_rng(1)
    block = rng.integers(0, 4, (5, 6, 7)).astype(np.uint64) + np.uint64(2**63)
    image = rng.integers(0, 256, (5, 6, 7)).astype(np.uint8)
    signed = -image.astype(np.int16)
    for factors in ((2, 2, 2), (1, 2, 2), (2, 1, 1), (1, 1, 1)):
        shape = tuple(-(-n // f) for n, f in zip(block.shape, factors, strict=True))
        mode, mean = reduced(block, factors, "mode"), reduced(image, factors, "mean")
        assert mode.shape == mean.shape == shape
        exact = reduced(image.astype(np.float64), factors, "mean")
        np.testing.assert_array_equal(mean, np.floor(exact + 0.5))
        lower = np.floor(0.5 - exact)
        np.testing.assert_array_equal(reduced(signed, factors, "mean"), lower)
        for at in np.ndindex(shape):
            box = tuple(slice(i * f, i * f + f) for i, f in zip(at, factors, strict=True))
            assert exact[at] == pytest.approx(image[box].mean())
            values, first, counts = np.unique(block[box], return_index=True, return_counts=True)
            best = np.flatnonzero(counts == counts.max())
            assert mode[at] in values[best]
            if all(n == f for n, f in zip(block[box].shape, factors, strict=True)):
                assert mode[at] == values[best[first[best].argmin()]]


def test_blocks_cover_an_array_once_in_whole_chunks():
    seen = np.zeros((2, 50, 300, 131), int)
    for block in cubes(seen.shape, (1, 50, 64, 64), 128):
        assert all(b.start % u == 0 for b, u in zip(block, (1, 50, 64, 64), strict=True))
        seen[block] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("theirs", [(1, 300, 131), (16, 48, 96), (64, 128, 128), (7, 11, 13)])
def test_rows_cover_an_array_once_within_their_size(theirs):
    seen = np.zeros((50, 300, 131), int)
    for box in rows(seen.shape, (16, 32, 32), theirs, 200_000):
        assert all(b.start % u == 0 for b, u in zip(box, (16, 32, 32), strict=True))
        assert seen[box].size <= 200_000
        seen[box] += 1
    assert (seen == 1).all()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, 9, (4, 15, 15)), np.ones((11, 11, 11), int)).astype(np.uint32)
    for name, values in (("image", (ids * 20).astype(np.uint8)), ("labels", ids)):
        array = create_image(
            tmp_path / "v.zarr", name, ids.shape, values.dtype, voxel_size=(30, 8, 8)
        )
        array[...] = values
    return tmp_path / "v.zarr"


def levels(image: Path) -> list[np.ndarray]:
    group = zarr.open_group(str(image), mode="r")
    datasets = group.attrs["ome"]["multiscales"][0]["datasets"]
    return [group[d["path"]][...] for d in datasets]


def test_levels_and_their_places(volume: Path):
    assert build_pyramid(volume / "labels") == 2
    full, one, two = levels(volume / "labels")
    np.testing.assert_array_equal(one, reduced(full, (1, 2, 2), "mode"))
    np.testing.assert_array_equal(two, reduced(one, (1, 2, 2), "mode"))
    assert set(np.unique(two)) <= set(np.unique(full))
    build_pyramid(volume / "image")
    np.testing.assert_array_equal(
        levels(volume / "image")[1], reduced(levels(volume / "image")[0], (1, 2, 2), "mean")
    )
    group = zarr.open_group(str(volume / "image"), mode="r")
    (entry,) = group.attrs["ome"]["multiscales"]
    assert entry["type"] == "mean"
    scale, translation = entry["datasets"][2]["coordinateTransformations"]
    assert scale["scale"] == [30, 32, 32]
    assert translation["translation"] == [0, 12, 12]  # the centre of its first voxel
    opened = open_volume(volume)
    assert opened.names == ("image", "labels")
    assert opened.voxel_size == (30, 8, 8)
    assert parse_multiscales(group.attrs).path == "0"
    assert sorted(group.keys()) == ["0", "1", "2"]


def test_changed_images_are_built_anew(volume: Path):
    image = volume / "image"
    build_pyramid(image)
    before = levels(image)
    open_volume(volume, "r+").image[...] = 7
    assert build_pyramid(image) == 2  # complete already
    np.testing.assert_array_equal(levels(image)[1], before[1])
    build_pyramid(image, overwrite=True)
    assert (levels(image)[2] == 7).all()
    with pytest.raises(VolumeError, match="2 levels made by mean in another way than ours by mode"):
        build_pyramid(image, "mode")


@pytest.mark.cluster
def test_workers_build_the_same_levels(volume: Path):
    build_pyramid(volume / "labels", threads=2)
    expected = levels(volume / "labels")
    with local_cluster(1, workers=2, processes=True, dashboard=False) as client:
        build_pyramid(volume / "labels", overwrite=True, client=client)
    for a, b in zip(levels(volume / "labels"), expected, strict=True):
        np.testing.assert_array_equal(a, b)


KILLED = """
import sys, time
from znn_dask.data import pyramid
build, done = pyramid._build, []
def slow(*args):
    if len(done) == int(sys.argv[2]):
        print("there", flush=True)
        time.sleep(60)
    build(*args)
    done.append(args)
pyramid._build, pyramid.BLOCK_EDGE = slow, 64
pyramid.build_pyramid(sys.argv[1], threads=1)
"""


@pytest.mark.parametrize("survivors", [1, 3, 4])
def test_a_killed_run_is_continued(volume: Path, survivors: int, monkeypatch):
    image = volume / "image"
    build_pyramid(image)
    expected = levels(image)
    group = zarr.open_group(str(image), mode="r+")
    ome = group.attrs["ome"]
    ome["multiscales"][0]["datasets"] = ome["multiscales"][0]["datasets"][:1]
    group.update_attributes({"ome": ome})
    for name in "12":
        del group[name]
    command = [sys.executable, "-c", KILLED, str(image), str(survivors)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as out:
        assert out.readline() == b"there\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    shown = levels(image)
    assert len(shown) == (1 if survivors < 4 else 2)  # a level of four blocks
    from znn_dask.data import pyramid

    made = []
    build = pyramid._build
    monkeypatch.setattr(pyramid, "BLOCK_EDGE", 64)
    monkeypatch.setattr(pyramid, "_build", lambda *args: (made.append(args), build(*args)))
    build_pyramid(image)
    assert len(made) == 5 - survivors
    for a, b in zip(levels(image), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert sorted(p.name for p in image.iterdir()) == ["0", "1", "2", "zarr.json"]


def test_errors_say_what_to_do(tmp_path: Path, volume: Path):
    for place in (tmp_path / "absent", volume, volume / "image" / "0"):
        with pytest.raises(VolumeError, match=r"such as volume\.zarr/image") as caught:
            build_pyramid(place)
        assert "\n" not in str(caught.value)
