"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


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


# Rooms whose tests start schedulers, workers, kernels or browsers, most of them.
CROWDED = {"cluster", "dashboard", "deploy", "jobs", "notebooks", "training"}


class OneForClusters(LoadScopeScheduling):
    """Of the processes that pytest runs in, one takes all tests of crowded rooms.

    Two clusters at a time would wait for each other's processors longer than the tests wait.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "clusters" if Path(file).parent.name in CROWDED else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneForClusters:
    return OneForClusters(config, log)
