"""Formats of other programs: axes, voxel sizes, and what of them is read at a time."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr

from znn_dask.data import pages
from znn_dask.data.importing import import_image
from znn_dask.data.metadata import VolumeError
from znn_dask.data.precomputed import export_precomputed
from znn_dask.data.pyramid import build_pyramid
from znn_dask.data.readers import open_reader
from znn_dask.data.reduction import reduced
from znn_dask.data.volume import create_image, open_volume

SHAPE = (20, 37, 70)  # z, y, x


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60_000, SHAPE).astype(np.uint16)


def check(source: Any, folder: Path, expected: np.ndarray, size: tuple, **more: Any) -> None:
    """Both the array that is stored and boxes that are read alone agree with `expected`."""
    array = import_image(source, folder / "v.zarr", progress=False, overwrite=True, **more)
    np.testing.assert_array_equal(array[...], expected)
    assert open_volume(folder / "v.zarr").voxel_size == pytest.approx(size)
    with open_reader(source, more.get("axes")) as reader:
        box = (..., slice(3, 9), slice(5, 6), slice(60, 70))
        whole = [slice(0, n) for n in expected.shape[:-3]]
        np.testing.assert_array_equal(reader.read((*whole, *box[1:])), expected[box])


def write_n5(folder: Path, values: np.ndarray, attributes: dict[str, Any]) -> None:
    """values (z,y,x), which N5 lists as x,y,z."""
    specification = {
        "driver": "n5",
        "kvstore": {"driver": "file", "path": f"{folder}/"},
        "metadata": {
            "dimensions": values.shape[::-1],
            "blockSize": [16, 16, 8],
            "dataType": values.dtype.name,
            "compression": {"type": "gzip"},
        },
    }
    tensorstore.open(specification, create=True).result()[...] = values.T
    stored = json.loads((folder / "attributes.json").read_text())
    (folder / "attributes.json").write_text(json.dumps(stored | attributes))


@pytest.mark.parametrize(
    ("dataset", "above"),
    [
        ({"resolution": [4, 5, 40]}, {}),
        ({}, {"resolution": [4, 5, 40], "offset": [0, 0, 0]}),  # Paintera
        ({"pixelResolution": {"dimensions": [0.004, 0.005, 0.04], "unit": "um"}}, {}),
        ({"transform": {"axes": ["z", "y", "x"], "scale": [40, 5, 4], "units": ["nm"] * 3}}, {}),
        ({"axes": ["x", "y", "z"], "units": ["nm"] * 3, "resolution": [4, 5, 40]}, {}),
    ],
)
def test_n5(tmp_path, stack, dataset, above):
    root = tmp_path / "file.n5"
    write_n5(root / "volumes" / "raw", stack, dataset)
    (root / "volumes" / "attributes.json").write_text(json.dumps(above))
    check(root / "volumes" / "raw", tmp_path, stack, (40, 5, 4))


def test_the_first_of_several_levels_of_n5(tmp_path, stack):
    write_n5(tmp_path / "some" / "raw" / "s0", stack, {})
    write_n5(tmp_path / "some" / "raw" / "s1", stack[::2, ::2, ::2], {})
    check(f"n5://{tmp_path}/some/raw", tmp_path, stack, (1, 1, 1))
    with pytest.raises(VolumeError, match=r"is no N5 dataset: name one in it, such as .*/some/raw"):
        import_image(f"n5://{tmp_path}/some", tmp_path / "v.zarr", "x")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("separator", [".", "/"])
def test_zarr_version_2(tmp_path, stack, order, separator):
    array = zarr.create_array(
        str(tmp_path / "old.zarr"),
        shape=stack.shape,
        dtype=stack.dtype,
        chunks=(8, 16, 16),
        zarr_format=2,
        order=order,
        chunk_key_encoding={"name": "v2", "separator": separator},
    )
    array[...] = stack
    check(tmp_path / "old.zarr", tmp_path, stack, (1, 1, 1))
    check(f"zarr://{tmp_path}/old.zarr", tmp_path, stack.T, (1, 1, 1), axes="xyz")


@pytest.mark.parametrize("axes", ["tczyx", "zyx", "cxyz"])
def test_ome_zarr_04_of_other_programs(tmp_path, stack, axes):
    both = np.stack([stack, stack + 1])
    values = {"tczyx": stack[None], "zyx": stack, "cxyz": both}[axes]
    values = np.transpose(values, ["czyx"[-values.ndim :].index(a) for a in axes if a != "t"])
    values = values[None] if "t" in axes else values
    unit = {a: {"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"}
    other = {"t": {"name": "t", "type": "time"}, "c": {"name": "c", "type": "channel"}}
    scale = {"z": 0.04, "y": 0.005, "x": 0.004, "c": 1.0, "t": 2.0}
    datasets = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {"type": "scale", "scale": [scale[a] * 2**k for a in axes]}
            ],
        }
        for k in range(2)
    ]
    entry = {"version": "0.4", "axes": [(unit | other)[a] for a in axes], "datasets": datasets}
    group = zarr.open_group(str(tmp_path / "o.zarr"), mode="w", zarr_format=2)
    group.attrs["multiscales"] = [entry]
    for k in range(2):
        array = group.create_array(
            str(k),
            shape=values.shape,
            dtype=values.dtype,
            chunks=(1,) * (values.ndim - 3) + (8, 16, 16),
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        array[...] = values
    expected = both if axes == "cxyz" else stack
    check(tmp_path / "o.zarr", tmp_path, expected, (40, 5, 4))


@pytest.mark.parametrize("axes", ["zyx", "xyz", "yzx", "zcyx", "xyzc"])
def test_stated_axes(tmp_path, stack, axes):
    both = np.stack([stack, stack + 1]) if "c" in axes else stack
    values = np.transpose(both, ["czyx"[-both.ndim :].index(a) for a in axes])
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["main"] = values
        size = {"z": 40.0, "y": 5.0, "x": 4.0}
        file["main"].attrs["resolution"] = [size[a] for a in axes if a in size]
    check(tmp_path / "f.h5", tmp_path, both, (40, 5, 4), axes=axes)


def test_axes_that_do_not_fit(tmp_path, stack):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["main"] = stack
        file["film"] = stack[:, None, None]
        file["tagged"] = stack[None, ..., None]
        tags = {"axes": [{"key": a} for a in "tzyxc"]}
        file["tagged"].attrs["axistags"] = json.dumps(tags)
    for axes in ("xy", "zzx", "zyq", "czyx"):
        with pytest.raises(VolumeError, match=rf"shape \(20, 37, 70\) and axes '{axes}'"):
            import_image(tmp_path / "f.h5", tmp_path / "v.zarr", axes=axes)
    with pytest.raises(VolumeError, match=r"20 time points: .* such as --axes zczyx"):
        import_image(f"{tmp_path}/f.h5:film", tmp_path / "v.zarr")
    check(f"{tmp_path}/f.h5:tagged", tmp_path, stack, (1, 1, 1))


@pytest.mark.parametrize("held", [1, 2**30])
def test_slices_that_memory_has_no_room_for(tmp_path, stack, monkeypatch, held):
    """Decoded once each, though the boxes are smaller than a slice."""
    monkeypatch.setattr(pages, "HELD_BYTES", held)
    monkeypatch.setattr("znn_dask.data.importing.BOX_BYTES", 1)
    decoded = []
    decode = pages.Pages._page
    both = np.stack([stack, stack + 1], axis=1)  # z, c, y, x
    tifffile.imwrite(
        tmp_path / "s.tif", both, imagej=True, metadata={"axes": "ZCYX"}, compression="zlib"
    )
    monkeypatch.setattr(
        "znn_dask.data.tiff._decode",
        lambda path, page, out: (decoded.append(page.index), page.asarray(out=out))[1],
    )
    assert decode is pages.Pages._page
    array = import_image(tmp_path / "s.tif", tmp_path / "v.zarr", chunks=(1, 8, 16, 16))
    np.testing.assert_array_equal(array[...], both.swapaxes(0, 1))
    assert sorted(decoded) == list(range(40))


def precomputed(place: Path, scale: int = 0) -> np.ndarray:
    specification = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{place}/"},
        "scale_index": scale,
    }
    return tensorstore.open(specification).result().read().result().T


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "uint64"])
def test_labels_to_precomputed_and_back(tmp_path, dtype):
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, 200, (4, 13, 13)), np.ones((9, 11, 12), int)).astype(dtype)
    if dtype == "uint64":
        ids[ids > 0] += 2**63
    array = create_image(tmp_path / "v.zarr", "labels", ids.shape, dtype, voxel_size=(40, 5, 4))
    array[...] = ids
    place = tmp_path / "ids.precomputed"
    export_precomputed(tmp_path / "v.zarr" / "labels", place, labels=True, threads=2)
    np.testing.assert_array_equal(precomputed(place)[0], ids)
    info = json.loads((place / "info").read_text())
    assert (info["type"], info["data_type"]) == ("segmentation", dtype)
    assert [s["resolution"] for s in info["scales"]] == [[4, 5, 40], [8, 10, 40], [16, 20, 40]]
    level = ids
    for number in (1, 2):
        level = reduced(level, (1, 2, 2), "mode")
        np.testing.assert_array_equal(precomputed(place, number)[0], level)
    check(place, tmp_path, ids, (40, 5, 4))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ids.precomputed", "v.zarr"]
    build_pyramid(tmp_path / "v.zarr" / "image", "mode", overwrite=True)  # the two ways agree
    stored = zarr.open_group(str(tmp_path / "v.zarr" / "image"))
    np.testing.assert_array_equal(stored["2"][...], level)


def test_maps_to_precomputed_keep_their_place(tmp_path):
    values = np.random.default_rng(0).random((2, 12, 70, 80), np.float32)
    array = create_image(tmp_path / "map.zarr", "map", values.shape, "f4", voxel_size=(30, 8, 8))
    array[...] = values
    group = zarr.open_group(str(tmp_path / "map.zarr" / "map"))
    ome = group.attrs["ome"]
    steps = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    steps.append({"type": "translation", "translation": [0, 60, 24, 40]})
    group.attrs["ome"] = ome
    export_precomputed(tmp_path / "map.zarr" / "map", tmp_path / "map")
    np.testing.assert_array_equal(precomputed(tmp_path / "map"), values)
    info = json.loads((tmp_path / "map" / "info").read_text())
    assert info["type"] == "image"
    assert [s["voxel_offset"] for s in info["scales"]] == [[5, 3, 2], [2, 1, 2]]
    check(tmp_path / "map", tmp_path, values, (30, 8, 8))


def test_failed_export_leaves_what_was_there(tmp_path, monkeypatch):
    create_image(tmp_path / "v.zarr", "image", (4, 4, 4), "f8")
    create_image(tmp_path / "v.zarr", "ids", (4, 4, 4), "i4")
    place = tmp_path / "out.precomputed"
    for name, says in {"image": "holds float64", "ids": "holds int32"}.items():
        with pytest.raises(VolumeError, match=says):
            export_precomputed(tmp_path / "v.zarr" / name, place)
    array = create_image(tmp_path / "v.zarr", "labels", (4, 4, 4), "u4")
    array[...] = 3
    export_precomputed(array := tmp_path / "v.zarr" / "labels", place)

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("znn_dask.data.precomputed.reduce_block", fail)
    with pytest.raises(KeyboardInterrupt):
        export_precomputed(array, place)
    assert (precomputed(place) == 3).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.precomputed", "v.zarr"]


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("tensorstore", "x.n5", r"pip install 'znn-dask\[neuroglancer\]'"),
        ("h5py", "x.h5", r"pip install 'znn-dask\[formats\]'"),
        ("s3fs", "s3://bucket/v.zarr", r"pip install 'znn-dask\[s3\]'"),
    ],
)
def test_missing_packages_are_named(tmp_path, monkeypatch, module, source, says):
    monkeypatch.setitem(sys.modules, module, None)
    known = import_module("fsspec.registry")._registry
    monkeypatch.delitem(known, "s3", raising=False)
    (tmp_path / "x.n5").mkdir()
    (tmp_path / "x.h5").write_bytes(b"")
    place = source if "://" in source else tmp_path / source
    with pytest.raises(VolumeError, match=says) as caught:
        import_image(place, tmp_path / "v.zarr")
    assert "\n" not in str(caught.value)
