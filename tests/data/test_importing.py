import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from znn_dask.data import importing
from znn_dask.data.importing import import_image
from znn_dask.data.metadata import VolumeError
from znn_dask.data.sampling import PatchSampler
from znn_dask.data.volume import open_volume

h5py = pytest.importorskip("h5py")


@pytest.fixture
def stack():
    return np.random.default_rng(0).integers(0, 256, (7, 30, 21), np.uint8)


def imported(source, folder, name="image", **more):
    array = import_image(source, folder / "v.zarr", name, progress=False, **more)
    return array[...]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"compression": "lzw", "tile": (16, 16)},
        {"bigtiff": True},
        {"imagej": True},
        {"byteorder": ">"},
        {"metadata": None},
        {"ome": True, "compression": "zlib", "metadata": {"axes": "ZYX"}},
        {"rowsperstrip": 4, "compression": "zlib"},
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_tiff_of_every_kind(tmp_path, stack, options, dtype):
    data = stack.astype(dtype) * 2
    tifffile.imwrite(tmp_path / "s.tif", data, **{"photometric": "minisblack"} | options)
    out = imported(tmp_path / "s.tif", tmp_path, chunks=(2, 16, 16))
    assert out.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(out, data)


def test_single_page_and_channels(tmp_path, stack):
    tifffile.imwrite(tmp_path / "one.tif", stack[0])
    np.testing.assert_array_equal(imported(tmp_path / "one.tif", tmp_path), stack[:1])
    both = np.stack([stack, 255 - stack], axis=1)  # ImageJ's order: z, c, y, x
    for name, options in {"raw": {}, "packed": {"compression": "zlib"}}.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, both, imagej=True, metadata={"axes": "ZCYX"}, **options)
        out = imported(path, tmp_path, name)
        np.testing.assert_array_equal(out, both.swapaxes(0, 1))


def test_voxel_size(tmp_path, stack):
    path = tmp_path / "s.tif"
    tifffile.imwrite(
        path, stack, imagej=True, resolution=(250, 200),
        metadata={"spacing": 0.03, "unit": "um", "axes": "ZYX"},
    )  # fmt: skip
    imported(path, tmp_path)
    assert open_volume(tmp_path / "v.zarr").voxel_size == pytest.approx((30, 5, 4))
    size = {f"PhysicalSize{a}": v for a, v in zip("ZYX", (40, 5, 6), strict=True)}
    units = {f"PhysicalSize{a}Unit": "nm" for a in "ZYX"}
    tifffile.imwrite(tmp_path / "o.ome.tif", stack, metadata={"axes": "ZYX"} | size | units)
    imported(tmp_path / "o.ome.tif", tmp_path, "ome")
    imported(path, tmp_path, "mine", voxel_size=(1, 2, 3))
    tifffile.imwrite(tmp_path / "plain.tif", stack, resolution=(72, 72), resolutionunit="INCH")
    imported(tmp_path / "plain.tif", tmp_path, "plain")
    volume = open_volume(tmp_path / "v.zarr")
    assert volume.metadata("ome").voxel_size == (40, 5, 6)
    assert volume.metadata("mine").voxel_size == (1, 2, 3)
    assert volume.metadata("plain").voxel_size == pytest.approx((30, 5, 4))  # as the image


def test_hdf5(tmp_path, stack):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("volumes/raw", data=stack, chunks=(2, 8, 8), compression="gzip")
        file["volumes/raw"].attrs["resolution"] = (40.0, 4.0, 4.0)
        file["volumes/probability"] = np.stack([stack, stack]).astype(np.float64)
    np.testing.assert_array_equal(imported(f"{tmp_path}/f.h5:/volumes/raw", tmp_path), stack)
    assert open_volume(tmp_path / "v.zarr").voxel_size == (40, 4, 4)
    out = imported(f"{tmp_path}/f.h5:volumes/probability", tmp_path, "probability")
    assert (out.dtype, out.shape) == (np.float32, (2, *stack.shape))
    with pytest.raises(VolumeError, match="say which one, such as"):
        imported(tmp_path / "f.h5", tmp_path, "x")
    with pytest.raises(VolumeError, match="no dataset /raw, it has /volumes/probability, /vol"):
        imported(f"{tmp_path}/f.h5:/raw", tmp_path, "x")


def test_folder_of_slices_in_natural_order(tmp_path, stack):
    from skimage.io import imsave

    for kind in ("png", "tif"):
        folder = tmp_path / kind
        folder.mkdir()
        for k in range(12):
            imsave(folder / f"slice_{k}.{kind}", stack[k % 7] // 2 + k, check_contrast=False)
        out = imported(folder, tmp_path, kind)
        np.testing.assert_array_equal(out[10], stack[3] // 2 + 10)
        assert out.shape == (12, 30, 21)
    tifffile.imwrite(tmp_path / "tif" / "slice_7.tif", stack[0, 1:])
    with pytest.raises(VolumeError, match="make all slices alike"):
        imported(tmp_path / "tif", tmp_path, "x")


def test_zarr_version_2(tmp_path, stack):
    import zarr

    old = zarr.create_array(
        str(tmp_path / "old.zarr"), shape=stack.shape, dtype="u1", chunks=(4, 8, 8), zarr_format=2
    )
    old[...] = stack
    np.testing.assert_array_equal(imported(tmp_path / "old.zarr", tmp_path), stack)


def test_labels_become_unsigned_ids(tmp_path, stack):
    ids = stack.astype(np.int32) * 1000
    colours = np.stack([ids >> 16, ids >> 8, ids], axis=-1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "rgb.tif", colours, photometric="rgb", compression="zlib")
    tifffile.imwrite(tmp_path / "flat.tif", colours, photometric="rgb")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["main"] = ids
        file["float"] = ids.astype(np.float32)
        file["rgb"] = colours
        file["broken"] = ids - 1
    sources = {
        "labels": tmp_path / "rgb.tif",
        "labels_flat": tmp_path / "flat.tif",
        "labels_int": tmp_path / "f.h5",
        "labels_float": f"{tmp_path}/f.h5:float",
        "labels_rgb": f"{tmp_path}/f.h5:rgb",
    }
    for name, source in sources.items():
        out = imported(source, tmp_path, name)
        assert out.dtype == np.uint32
        np.testing.assert_array_equal(out, ids)
    with pytest.raises(VolumeError, match=r"not ids .* from -1"):
        imported(f"{tmp_path}/f.h5:broken", tmp_path, "labels_x")
    np.testing.assert_array_equal(imported(tmp_path / "f.h5", tmp_path, "mask"), ids > 0)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("options", [{}, {"metadata": None}])
def test_truncated_stack_is_never_taken_for_a_short_one(tmp_path, stack, options, share):
    tifffile.imwrite(
        tmp_path / "s.tif", stack, photometric="minisblack", compression="lzw", **options
    )
    whole = (tmp_path / "s.tif").read_bytes()
    (tmp_path / "s.tif").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(VolumeError, match=r"cut short|cannot be decoded"):
        imported(tmp_path / "s.tif", tmp_path)
    assert not (tmp_path / "v.zarr").exists()


def test_slices_written_one_by_one_are_one_stack(tmp_path, stack):
    with tifffile.TiffWriter(tmp_path / "s.tif") as writer:
        for plane in stack:
            writer.write(plane, contiguous=False, compression="zlib")
    np.testing.assert_array_equal(imported(tmp_path / "s.tif", tmp_path), stack)
    with tifffile.TiffWriter(tmp_path / "t.tif") as writer:
        writer.write(stack, photometric="minisblack")
        writer.write(stack[0, :5])
    with pytest.raises(VolumeError, match=r"holds 2 images, \(7, 30, 21\), \(5, 21\)"):
        imported(tmp_path / "t.tif", tmp_path, "x")


def test_errors_leave_nothing(tmp_path, stack):
    tifffile.imwrite(tmp_path / "s.tif", stack)
    (tmp_path / "bad.tif").write_bytes(b"II*\0nonsense")
    (tmp_path / "bad.h5").write_bytes(b"nonsense")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "s.tif").read_bytes()[:3000])
    (tmp_path / "raw.dat").write_bytes(b"nonsense")
    for source, says in {
        "absent.tif": "nothing to import",
        "bad.tif": "TIFF|no image",
        "cut.tif": "is cut short",
        "bad.h5": "not a readable HDF5",
        "raw.dat": "expected .tif, .h5",
    }.items():
        with pytest.raises(VolumeError, match=says) as caught:
            imported(tmp_path / source, tmp_path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "v.zarr").exists()
    imported(tmp_path / "s.tif", tmp_path)
    with pytest.raises(VolumeError, match="already has 'image'"):
        imported(tmp_path / "s.tif", tmp_path)
    tifffile.imwrite(tmp_path / "t.tif", stack[:3], photometric="minisblack")
    assert imported(tmp_path / "t.tif", tmp_path, overwrite=True).shape == stack[:3].shape
    assert sorted(p.name for p in (tmp_path / "v.zarr").iterdir()) == ["image", "zarr.json"]


def test_failure_halfway_keeps_the_old_item(tmp_path, stack, monkeypatch):
    tifffile.imwrite(tmp_path / "s.tif", stack)
    imported(tmp_path / "s.tif", tmp_path)

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(importing.Landing, "progress", fail)
    with pytest.raises(KeyboardInterrupt):
        imported(tmp_path / "s.tif", tmp_path, overwrite=True)
    volume = open_volume(tmp_path / "v.zarr")
    assert volume.names == ("image",)
    np.testing.assert_array_equal(volume.image[...], stack)
    monkeypatch.undo()
    tifffile.imwrite(tmp_path / "s.tif", stack + 1)
    np.testing.assert_array_equal(imported(tmp_path / "s.tif", tmp_path, overwrite=True), stack + 1)
    assert sorted(p.name for p in (tmp_path / "v.zarr").iterdir()) == ["image", "zarr.json"]


KILLED = """
import sys, time
from znn_dask.data import importing
progress = importing.Landing.progress
def slow(landing, group, done):
    progress(landing, group, done)
    if done == 3:
        print("half", flush=True)
        time.sleep(60)
importing.Landing.progress, importing.BOX_BYTES = slow, 1
importing.import_image(sys.argv[1], sys.argv[2], chunks=(1, 16, 32), progress=False)
"""


def test_killed_import_is_continued(tmp_path, stack, monkeypatch):
    tifffile.imwrite(tmp_path / "s.tif", stack)
    target = tmp_path / "v.zarr"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "s.tif"), str(target)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    monkeypatch.setattr(importing, "BOX_BYTES", 1)
    with process.stdout as out:
        assert out.readline() == b"half\n"
        with pytest.raises(VolumeError, match=rf"process {process.pid} is importing 'image'"):
            imported(tmp_path / "s.tif", tmp_path, chunks=(1, 16, 32))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert [p.name for p in target.iterdir()] == [".image.partial"]
    with pytest.raises(VolumeError):
        open_volume(target)
    boxes = []
    original = importing.open_reader

    @contextmanager
    def spy(*arguments):
        with original(*arguments) as reader:
            read = lambda box: (boxes.append(box), reader.read(box))[1]  # noqa: E731
            yield replace(reader, read=read)

    monkeypatch.setattr(importing, "open_reader", spy)
    out = imported(tmp_path / "s.tif", tmp_path, chunks=(1, 16, 32))
    np.testing.assert_array_equal(out, stack)
    assert len(boxes) == 14 - 3
    assert sorted(p.name for p in target.iterdir()) == ["image", "zarr.json"]


def test_progress_goes_to_standard_error(tmp_path, stack, capfd):
    tifffile.imwrite(tmp_path / "s.tif", stack)
    import_image(tmp_path / "s.tif", tmp_path / "v.zarr")
    seen = capfd.readouterr()
    assert "1/1 boxes" in seen.err
    assert not seen.out


def test_real_volumes(shared, tmp_path):
    folder = shared / "data"
    start = time.perf_counter()
    path = tmp_path / "fib25.zarr"
    size = (10, 10, 10)
    import_image(folder / "fib25/dev_image.tif", path, voxel_size=size, progress=False)
    import_image(folder / "fib25/dev_labels.tif", path, "labels", progress=False)
    volume = open_volume(path)
    assert volume.image.shape == (250, 160, 250)
    assert volume.metadata("labels").voxel_size == size
    expected = tifffile.imread(folder / "fib25/dev_labels.tif")
    np.testing.assert_array_equal(volume.labels[...], expected)
    sampler = PatchSampler(
        path, {"input": (20, 40, 40)}, {"output": (8, 28, 28)}, region=(None, None, (0, 180))
    )
    assert sampler.targets["output"].thickness == 1  # dense ids, a few stray zeros
    patch = sampler.patch(0)
    assert 0 < patch.targets["output"][..., 1].mean() < 0.6
    isbi = tmp_path / "isbi.zarr"
    import_image(folder / "isbi2012/train_image.tif", isbi, progress=False)
    import_image(folder / "isbi2012/train_label.tif", isbi, "labels", progress=False)
    sampler = PatchSampler(isbi, {"input": (1, 40, 40)}, {"output": (1, 8, 8)}, border="mirror")
    assert sampler.targets["output"].thickness == 0
    assert time.perf_counter() - start < 60
