"""The commands one after the other, on a volume of a few voxels."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from cli_cases import run

from znn_dask.data import open_array, open_volume
from znn_dask.training.checkpoint import latest, load_checkpoint


def test_train_leaves_checkpoints_and_curve(trained: Path) -> None:
    state = load_checkpoint(trained / "checkpoints")
    assert state.step == 8
    assert [point.step for point in state.curve.validation] == [4, 8]
    folder = trained / "checkpoints"
    assert (folder / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    curve = json.loads((folder / "learning-curve.json").read_text())
    assert len(curve["train"]["loss"]) == 8


def test_training_goes_on_where_it_stopped(
    project: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project / "config.toml"
    assert run(capsys, "train", config, "--set", "training.updates=3").code == 0
    again = run(capsys, "train", config)
    assert again.code == 2
    assert "--resume" in again.err
    assert run(capsys, "train", config, "--resume").code == 0
    here, there = (load_checkpoint(folder / "checkpoints") for folder in (project, trained))
    for name, values in there.parameters.items():
        np.testing.assert_array_equal(values, here.parameters[name])


def test_what_the_threads_did_is_drawn(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = project / "timeline.svg"
    done = run(capsys, "train", project / "config.toml", "--timeline", picture)
    assert done.code == 0, done.err
    assert f"timeline drawn in {picture}" in done.err
    assert "4 updates" in picture.read_text(encoding="utf-8")


def test_a_timeline_of_no_format_is_refused_before_training(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = run(capsys, "train", project / "config.toml", "--timeline", project / "t.txt")
    assert refused.code == 2
    assert "ends in '.txt'" in refused.err
    assert not (project / "checkpoints").exists()


def test_training_starts_from_another(
    project: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run(
        capsys,
        *("train", project / "config.toml", "--set", "training.updates=1"),
        *("--set", f"network.seed_from={trained / 'checkpoints'}"),
        *("--set", "optimizer.eta=1e-20", "--set", "optimizer.momentum=0.0"),
    )
    assert done.code == 0, done.err
    assert "copied 4 parameters" in done.err
    here, there = (load_checkpoint(folder / "checkpoints") for folder in (project, trained))
    np.testing.assert_array_equal(here.parameters["c1.filters"], there.parameters["c1.filters"])


def test_everything_in_float64(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    double = ("train", project / "config.toml", "--set", "training.dtype=float64")
    done = run(capsys, *double, "--set", "training.updates=1")
    assert done.code == 0, done.err
    checkpoints, map_ = project / "checkpoints", project / "map.zarr"
    assert load_checkpoint(checkpoints).parameters["c1.filters"].dtype == np.float64
    refused = run(capsys, "train", project / "config.toml", "--resume")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "dtype is float32, the checkpoint has float64" in refused.err
    image = project / "volume.zarr/image"
    done = run(capsys, "predict", checkpoints, image, map_, "--dtype", "float64")
    assert done.code == 0, done.err
    assert open_array(map_).dtype == np.float64
    assert run(capsys, "segment", map_, project / "objects.zarr").code == 0


def test_output_function_can_be_kept(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(
        capsys,
        *("train", project / "config.toml", "--set", "training.updates=1"),
        *("--set", "network.output_function=tanh", "--set", "training.loss=square"),
    )
    assert done.code == 0, done.err
    assert "tanh" in load_checkpoint(project / "checkpoints").network.rpartition("output")[2]


def test_example_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    done = run(capsys, "train", "--example")
    assert done.code == 0
    assert "[optimizer]" in done.out


def test_predict_segment_evaluate(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, labels = trained / "volume.zarr/image", trained / "volume.zarr/labels"
    map_, objects = trained / "map.zarr", trained / "objects.zarr"
    predict = ("predict", trained / "checkpoints", image, map_, "--border", "mirror")
    done = run(capsys, *predict, "--dtype", "uint8", "--region", ":,:,16:40", "--augment", "8")
    assert done.code == 0, done.err
    found = open_array(map_)
    assert (found.shape, found.dtype) == ((3, 12, 40, 24), np.uint8)
    other = run(capsys, *predict)
    assert other.code == 2
    assert run(capsys, *predict, "--overwrite").code == 0

    done = run(capsys, "segment", map_, objects, "--threshold", "0.5", "--minimum-size", "5")
    assert done.code == 0, done.err
    assert open_array(objects).shape == (12, 40, 40)
    assert run(capsys, "segment", map_, objects).code == 2
    assert run(capsys, "segment", map_, objects, "--overwrite", "--region", "0:6,:,:").code == 0

    done = run(capsys, "evaluate", objects, labels, "--json", "--relabel-components")
    assert done.code == 0, done.err
    scores = json.loads(done.out)
    assert 0 <= scores["adapted_rand_error"] <= 1
    assert scores["voxels"] == 6 * 40 * 40
    assert "adapted Rand error" in run(capsys, "evaluate", labels, labels).out


def test_import_reads_tiff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)
    tifffile.imwrite(tmp_path / "raw.tif", values)
    volume = tmp_path / "volume.zarr"
    done = run(capsys, "import", tmp_path / "raw.tif", volume, "--voxel-size", "30,8,8.5")
    assert done.code == 0, done.err
    imported = open_volume(volume)
    assert imported.voxel_size == (30, 8, 8.5)
    assert imported.image is not None
    np.testing.assert_array_equal(imported.image[:], values)
    assert run(capsys, "import", tmp_path / "raw.tif", volume).code == 2
    assert run(capsys, "import", tmp_path / "raw.tif", volume, "--name", "mask").code == 0
    assert open_volume(volume)["mask"][0, 0, 1] == 1


@pytest.mark.parametrize("name", ["image", "labels"])
def test_export_writes_tiff_that_import_reads(
    name: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = project / "volume.zarr" / name, project / "out.tif"
    assert run(capsys, "export", source, target).code == 0
    values = open_array(source)[:]
    np.testing.assert_array_equal(tifffile.imread(target), values)
    assert run(capsys, "export", source, target).code == 2
    assert run(capsys, "export", source, target, "--overwrite").code == 0
    again = project / "again.zarr"
    assert run(capsys, "import", target, again, "--name", name).code == 0
    assert open_volume(again).voxel_size == (8.0, 4.0, 4.0)
    np.testing.assert_array_equal(open_volume(again)[name][:], values)


def test_export_of_channels_and_of_wide_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maps = np.random.default_rng(0).random((3, 4, 5, 6)).astype(np.float32)
    zarr.save_array(tmp_path / "map.zarr", maps)
    assert run(capsys, "export", tmp_path / "map.zarr", tmp_path / "map.tif").code == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "map.tif"), maps)
    ids = np.full((2, 3, 4), 7, np.uint64)
    zarr.save_array(tmp_path / "ids.zarr", ids)
    assert run(capsys, "export", tmp_path / "ids.zarr", tmp_path / "ids.tif").code == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "ids.tif"), ids)
    zarr.save_array(tmp_path / "wide.zarr", ids << np.uint64(40))
    done = run(capsys, "export", tmp_path / "wide.zarr", tmp_path / "wide.tif")
    assert done.code == 2
    assert "32 bits" in done.err
    assert not (tmp_path / "wide.tif").exists()


def test_export_to_znn(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("h5py")
    from znn_dask.interop.znn_h5 import read_znn_h5

    target = trained / "net.h5"
    assert run(capsys, "export", trained / "checkpoints", target).code == 0
    state, file = load_checkpoint(trained / "checkpoints"), read_znn_h5(target)
    for name, values in state.parameters.items():
        np.testing.assert_array_equal(file.parameters[name], values)
    assert file.curves["train"]["it"].tolist() == list(range(1, 9))
    assert "field of view  3,5,5" in run(capsys, "info", target).out
    assert run(capsys, "export", latest(trained / "checkpoints"), trained / "net.znn").code == 0
    assert "field of view  3,5,5" in run(capsys, "info", trained / "net.znn").out


def test_volumes_must_name_their_items_alike(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(project / "volume.zarr", project / "other.zarr")
    text = (project / "config.toml").read_text()
    more = '[[data.train]]\nvolume = "other.zarr"\nmask = "seen"\nlabels = "image"\n[data]\n'
    (project / "config.toml").write_text(text.replace("[data]\n", more, 1))
    done = run(capsys, "train", project / "config.toml")
    assert done.code == 2
    assert "the same names" in done.err
    fixed = ("--set", "data.train.1.labels=labels", "--set", "training.updates=1")
    assert run(capsys, "train", project / "config.toml", *fixed).code == 0
