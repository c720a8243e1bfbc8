from pathlib import Path

import pytest
from cli_cases import run, write_volume

from znn_dask.data import create_image
from znn_dask.demo import run_demo, setup
from znn_dask.training.checkpoint import load_checkpoint


@pytest.mark.slow
def test_demo_makes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    report = run_demo(out, shape=(24, 40, 160), updates=6, threads=1)
    text = report.read_text()
    for word in ("adapted Rand error", "watershed of the image", "--resume", "svg+xml"):
        assert word in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "dashboard: http://127.0.0.1:" in capsys.readouterr().err
    assert load_checkpoint(out / "checkpoints").step == 6
    done = run(capsys, "train", out / "config.toml", "--resume", "--set", "training.updates=7")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_demo_with_a_volume_of_ones_own(tmp_path: Path) -> None:
    write_volume(tmp_path / "mine.zarr", (24, 40, 160))
    report = run_demo(tmp_path / "demo", data=str(tmp_path / "mine.zarr"), updates=4, threads=1)
    assert "mine.zarr" in report.read_text()


def test_demo_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="something else"):
        setup.prepare_folder(tmp_path)
    out = tmp_path / "demo"
    setup.prepare_folder(out)
    (out / "map.zarr").mkdir()
    setup.prepare_folder(out)
    assert not (out / "map.zarr").exists()


def test_demo_refuses_volumes_without_labels(tmp_path: Path) -> None:
    create_image(tmp_path / "v.zarr", "image", (8, 8, 8), "u1")
    with pytest.raises(ValueError, match="labels"):
        run_demo(tmp_path / "demo", data=str(tmp_path / "v.zarr"))
    assert not (tmp_path / "demo").exists()


def test_split_holds_out_the_last_quarter() -> None:
    parts = setup.split((56, 128, 448))
    assert (parts.train[2], parts.tuning[2], parts.test[2]) == (
        slice(0, 252),
        slice(252, 336),
        slice(336, 448),
    )
    assert parts.predicted[2] == slice(252, 448)
    assert parts.test_in_map[2] == slice(84, 196)
    large = setup.split((3000, 2000, 4000))
    assert [s.stop - s.start for s in large.test] == [64, 192, 192]
    assert large.test[2].start == large.tuning[2].stop == 3000


@pytest.mark.parametrize(
    ("voxel_size", "view"), [((8, 8, 8), (16, 16, 16)), ((30, 6, 6), (3, 16, 16))]
)
def test_network_fits_the_voxels(
    voxel_size: tuple[float, float, float], view: tuple[int, int, int]
) -> None:
    assert setup.demo_network(voxel_size).field_of_view == view
