"""The commands mesh, skeletonize, view and picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shapes import write_objects
from test_picture import two_balls

from znn_dask.cli.app import main
from znn_dask.neurons import Meshes


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    return Path(write_objects(tmp_path / "volume.zarr", two_balls(), (10, 10, 10)))


def test_from_objects_to_all_that_shows_them(
    objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meshes, page = tmp_path / "meshes", tmp_path / "balls.html"
    assert main(["mesh", str(objects), str(meshes), "--ids", "9", "4"]) == 0
    assert list(Meshes(meshes)) == [4, 9]
    assert main(["view", str(meshes), str(page), "--neuroglancer", "http://127.0.0.1:9000"]) == 0
    state = json.loads(page.with_suffix(".json").read_text())
    assert state["layers"][0]["segments"] == ["4", "9"]
    assert "balls" not in page.read_text().split("<title>")[1].split("</title>")[0]
    assert main(["picture", str(meshes), str(tmp_path / "balls.png"), "--size", "150"]) == 0
    with Image.open(tmp_path / "balls.png") as drawn:
        assert drawn.size[0] in (150, 151)
    capsys.readouterr()
    assert main(["skeletonize", str(objects), str(tmp_path / "s"), "--largest", "1"]) == 0
    out, err = capsys.readouterr()
    head, row = out.splitlines()
    assert head == "object voxels length_um branchings ends"
    assert row.split()[:2] == ["4", str(np.count_nonzero(two_balls() == 4))]
    assert "1 skeletons in" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mesh", "{0}", "{1}/m", "--ids", "5"), "there is no object 5"),
        (("mesh", "{1}/none.zarr", "{1}/m"), "no volume at"),
        (("view", "{0}", "{0}"), "exists already"),
        (("view", "{0}", "{1}/a.html", "--triangles", "5"), "5 triangles show nothing"),
        (("picture", "{0}", "{1}/a.png", "--size", "5"), "size 5"),
        (("skeletonize", "{0}", "{1}/s", "--minimum-size", "1000000"), "no object has 1000000"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...],
    message: str,
    objects: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([a.format(objects, tmp_path) for a in arguments]) == 2
    err = capsys.readouterr().err
    line = next(line for line in err.splitlines() if line.startswith("znn-dask: "))
    assert message in line
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix) == ["volume.zarr"]
