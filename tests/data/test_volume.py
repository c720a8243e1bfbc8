import json
import pickle

import numpy as np
import pytest
import zarr

from znn_dask.data.metadata import VolumeError, multiscales, parse_multiscales
from znn_dask.data.volume import (
    create_image,
    default_chunks,
    describe_array,
    open_array,
    open_volume,
)


def test_items_are_ome_zarr_images(tmp_path, make_volume):
    image = np.arange(10 * 12 * 14, dtype=np.uint8).reshape(10, 12, 14)
    path = make_volume(image=image, labels=image.astype(np.uint32))
    volume = open_volume(path)
    assert volume.names == ("image", "labels")
    assert volume.voxel_size == (40.0, 4.0, 4.0)
    assert volume.mask is None
    np.testing.assert_array_equal(volume.image[...], image)
    assert volume["labels"].dtype == np.uint32
    stored = json.loads((path / "image" / "zarr.json").read_text())
    assert stored["zarr_format"] == 3
    ome = stored["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (entry,) = ome["multiscales"]
    assert [a["name"] for a in entry["axes"]] == ["z", "y", "x"]
    assert {a["unit"] for a in entry["axes"]} == {"nanometer"}
    assert entry["datasets"][0]["coordinateTransformations"][0]["scale"] == [40, 4, 4]
    array = json.loads((path / "image" / "0" / "zarr.json").read_text())
    assert array["dimension_names"] == ["z", "y", "x"]


def test_open_array_finds_the_full_resolution(make_volume):
    data = np.arange(512, dtype=np.uint8).reshape(8, 8, 8)
    path = make_volume(image=data)
    for url in (path, path / "image", path / "image" / "0"):
        array = open_array(url)
        np.testing.assert_array_equal(array[...], data)
        about = describe_array(array)
        assert (about.axes, about.voxel_size) == ("zyx", (40, 4, 4))


def test_channels_come_first(tmp_path):
    array = create_image(tmp_path / "v.zarr", "affinity", (3, 8, 9, 10), "float32")
    assert array.chunks == (1, 8, 9, 10)
    about = describe_array(array)
    assert about.axes == "czyx"
    assert default_chunks((100, 200, 30)) == (64, 64, 30)


def test_volume_pickles_and_sees_new_items(tmp_path, make_volume):
    path = make_volume(image=np.zeros((4, 4, 4), np.uint8))
    volume = pickle.loads(pickle.dumps(open_volume(path)))
    create_image(path, "labels", (4, 4, 4), "uint32")
    assert "labels" in volume


def test_plain_array_without_metadata(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(3, 4, 5), dtype="u1", chunks=(3, 4, 5))
    array = open_array(tmp_path / "a.zarr")
    assert describe_array(array).voxel_size == (1, 1, 1)


def test_foreign_ome_zarr_at_the_root(tmp_path):
    attributes = multiscales("somebody", "zyx", (30.0, 4.0, 4.0))
    axes = attributes["ome"]["multiscales"][0]["axes"]
    axes[0]["unit"] = "micrometer"
    group = zarr.open_group(str(tmp_path / "f.zarr"), mode="w", attributes=attributes)
    group.create_array("0", shape=(4, 4, 4), dtype="u1", chunks=(4, 4, 4))
    volume = open_volume(tmp_path / "f.zarr")
    assert volume.names == ("image",)
    assert volume.voxel_size == (30000.0, 4.0, 4.0)
    assert open_array(tmp_path / "f.zarr").shape == (4, 4, 4)


def test_metadata_round_trip_and_version_04():
    for axes in ("zyx", "czyx"):
        about = parse_multiscales(multiscales("image", axes, (1.5, 2.0, 3.0)))
        assert (about.axes, about.voxel_size, about.path) == (axes, (1.5, 2.0, 3.0), "0")
    old = multiscales("image", "zyx", (1.0, 2.0, 3.0))["ome"]
    assert parse_multiscales(old).voxel_size == (1.0, 2.0, 3.0)
    assert parse_multiscales({"other": 1}) is None


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: open_volume(p / "absent.zarr"), "no volume at"),
        (lambda p: open_volume(p), "is not a Zarr volume"),
        (lambda p: open_volume(p / "v.zarr")["nuclei"], "no item 'nuclei', it has image, labels"),
        (lambda p: open_array(p / "v.zarr"), "say which one"),
        (lambda p: create_image(p / "v.zarr", "image", (2, 2, 2), "u1"), "already has 'image'"),
        (lambda p: create_image(p / "v.zarr", "a/b", (2, 2, 2), "u1"), "cannot name an image"),
        (lambda p: create_image(p / "v.zarr", "n", (2, 2), "u1"), "not 2"),
        (lambda p: create_image(p / "v.zarr", "n", (2, 2, 0), "u1"), "empty"),
        (lambda p: create_image(p / "v.zarr", "n", (2, 2, 2), "u1", (2, 2)), "chunks"),
        (
            lambda p: create_image(p / "v.zarr", "n", (2, 2, 2), "u1", voxel_size=(0, 1, 1)),
            "voxel size",
        ),
    ],
)
def test_errors_are_one_line(tmp_path, make_volume, call, says):
    data = np.zeros((4, 4, 4), np.uint8)
    make_volume(image=data, labels=data)
    with pytest.raises(VolumeError) as caught:
        call(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overwrite_replaces(make_volume):
    path = make_volume(image=np.ones((4, 4, 4), np.uint8))
    create_image(path, "image", (2, 2, 2), "uint16", overwrite=True)
    assert open_volume(path).image.shape == (2, 2, 2)


def test_notebook_picture(make_volume):
    data = np.random.default_rng(0).integers(0, 255, (4, 300, 20), np.uint8)
    path = make_volume(chunk=64, image=data, labels=data.astype(np.uint32))
    text = open_volume(path)._repr_html_()
    assert text.count("data:image/jpeg;base64,") == 3  # image across z and y, labels over it
    assert "40 × 4 × 4 nm" in text
