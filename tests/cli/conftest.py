from pathlib import Path

import cli_cases
import pytest

from znn_dask.cli import main


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Folder with volume.zarr, tiny.znn and config.toml."""
    cli_cases.write_project(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder after `train`."""
    folder = tmp_path_factory.mktemp("trained")
    assert main(["train", str(cli_cases.write_project(folder))]) == 0
    return folder
