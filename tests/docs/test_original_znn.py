"""What the page for users of the original ZNN says, done with a real checkpoint of it."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from pages import DOCS, blocks

from znn_dask.cli import main
from znn_dask.interop.znn_h5 import read_znn_h5
from znn_dask.training.config import parse_config
from znn_dask.training.config_schema import Config

PAGE = DOCS / "original-znn.md"


@pytest.fixture
def folder(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like that of a ZNN user."""
    golden = shared / "znn" / "golden_training"
    (tmp_path / "net_current.h5").symlink_to(golden / "affinity" / "net_5.h5")
    (tmp_path / "net.znn").symlink_to(golden / "aff3d.znn")
    for name in ("stack1-image.h5", "stack1-label.h5"):
        (tmp_path / name).symlink_to(golden / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands() -> list[list[str]]:
    first = next(block.text for block in blocks(PAGE) if block.language == "sh")
    lines = (line.partition("#")[0].split() for line in first.splitlines())
    return [words[1:] for words in lines]


@pytest.mark.slow
def test_the_way_from_znn_and_back(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train, apply = (block.text for block in blocks(PAGE) if block.language == "python")
    steps = {words[0]: words for words in commands()}
    assert list(steps) == ["info", "plan", "import", "train", "export"]
    for words in commands():
        if words[0] in ("info", "plan", "import"):
            assert main(words) == 0, capfd.readouterr().err
    exec(compile(f"{train}\n{apply}", PAGE.name, "exec"), {})
    assert (folder / "map.zarr").is_dir()
    assert main(steps["export"]) == 0, capfd.readouterr().err
    before, after = read_znn_h5(folder / "net_current.h5"), read_znn_h5(folder / "net.h5")
    assert after.network.field_of_view == before.network.field_of_view
    for name, values in before.parameters.items():
        change = np.abs(after.parameters[name] - values).max()
        assert 0 < change < 0.5, name  # ten updates on: near where ZNN was, not elsewhere


def test_the_example_is_a_configuration() -> None:
    text = next(block.text for block in blocks(PAGE) if block.language == "toml")
    config = parse_config(tomllib.loads(text), source=PAGE.name)
    assert config.data.rebalance == "patch"


def test_every_key_of_a_znn_configuration_is_there(shared: Path) -> None:
    golden = shared / "znn" / "golden_training"
    text = PAGE.read_text(encoding="utf-8")
    for file in ("affinity.cfg", "dataset.spec"):
        for key in re.findall(r"^(\w+)\s*=", (golden / file).read_text(), re.MULTILINE):
            assert re.search(rf"\b{key}\b", text), key


def test_keys_on_this_side_exist() -> None:
    known = {
        f"{name}.{key}"
        for name, field in Config.model_fields.items()
        for key in field.annotation.model_fields
    }
    named = re.findall(
        r"`((?:network|data|training|optimizer|execution)\.\w+)", PAGE.read_text(encoding="utf-8")
    )
    assert len(named) > 20
    assert set(named) <= known, set(named) - known
