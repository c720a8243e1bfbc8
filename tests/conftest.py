"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with reference results and real volumes; tests that need it skip without it."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("ZNN_SHARED", beside))
    if not (folder / "znn" / "golden").is_dir():
        pytest.skip(f"reference data not found at {folder}; set ZNN_SHARED to its folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the suite's own, for this process and those that it starts."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


# Rooms whose tests start schedulers, workers, kernels or browsers, nearly all of them.
CROWDED = {"cli", "cluster", "dashboard", "deploy", "docs", "jobs", "notebooks", "training"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where pytest runs in several processes, one of them takes all tests that start others.

    Two clusters at a time would wait for each other's processors longer than the tests wait.
    """
    for item in items:
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        if room in CROWDED or item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("clusters"))
