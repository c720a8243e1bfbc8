"""What is said before and after a prediction, and without one."""

import re

import pytest
from prediction_cases import boundary_state, make_image

from znn_dask.data.volume import create_image
from znn_dask.inference import predict
from znn_dask.inference.predict import preview

SHAPE = (7, 60, 81)


@pytest.fixture
def image(tmp_path):
    array = create_image(tmp_path / "in.zarr", "image", SHAPE, "uint8", (4, 16, 16))
    array[:] = make_image(SHAPE)
    return tmp_path / "in.zarr/image"


def test_one_line_before_and_one_after(tmp_path, image, capsys):
    how = {"block": (5, 26, 16), "pyramid": False}
    predict(boundary_state(), image, tmp_path / "o", memory_limit="64 MB", **how)
    before, after = capsys.readouterr().err.splitlines()
    found = re.fullmatch(
        r"block 5,26,16, 10 of them, (\d+)% of the work on halos; predicted [\d.]+ [kM]?voxels/s, "
        r".+ on (\d+) threads, (\d+) MiB for (\d) patches under way",
        before,
    )
    assert found
    waste, _, mib, patches = map(int, found.groups())
    assert 0 < waste < 100
    assert mib < 64
    assert patches >= 1
    assert re.fullmatch(r"measured [\d.]+ [kM]?voxels/s, .+", after)
    predict(boundary_state(), image, tmp_path / "o", **how)
    assert capsys.readouterr().err == ""  # nothing is missing


def test_a_preview_computes_and_writes_nothing(tmp_path, image, watched):
    text = preview(boundary_state(), image, tmp_path / "o", memory_limit="64 MB")
    assert not (tmp_path / "o").exists()
    assert watched.calls == 0
    header, *rows = text.splitlines()
    assert header.split()[:2] == ["block", "blocks"]
    assert sum(row.endswith("chosen") for row in rows) == 1
    (chosen,) = (row.split()[0] for row in rows if row.endswith("chosen"))
    out = predict(boundary_state(), image, tmp_path / "o", memory_limit="64 MB", progress=False)
    again = preview(boundary_state(), image, out, memory_limit="64 MB")
    assert f"{chosen} " in next(row for row in again.splitlines() if row.endswith("chosen"))


def test_a_preview_of_a_begun_prediction_names_its_block(tmp_path, image):
    out = predict(boundary_state(), image, tmp_path / "o", block=(5, 13, 16), progress=False)
    assert preview(boundary_state(), image, out).endswith("begun with block 5,13,16, which is kept")
