"""Kernels write their history and connection files into a folder of the suite's own."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def jupyter_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What Jupyter and IPython leave behind, for this process and its kernels."""
    folder = tmp_path_factory.mktemp("jupyter")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
            patch.setenv(name, str(folder / name.lower()))
        yield
