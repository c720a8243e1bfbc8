"""The store of measured seconds: round trips, damage, and several processes at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from znn_dask.taskgraph.machine import Machine
from znn_dask.taskgraph.timings import Timing, Timings, store, stored


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "znn-dask"


def file_in(cache: Path) -> Path:
    (path,) = cache.glob("timings-*.json")
    return path


def test_nothing_is_known_at_first(cache: Path):
    assert not stored()
    assert stored().machine == Machine()
    assert not cache.exists()


def test_what_is_stored_is_there_again():
    timings = Timings(
        {1: {"load": Timing(1e-3, 0.0)}, 2: {"loss": Timing(0.5, 0.25)}}, {"hop_seconds": 0.5}
    )
    assert store(timings) == timings
    assert stored() == timings
    assert stored().machine == Machine(hop_seconds=0.5)


def test_new_figures_overrule_old_ones_and_leave_others():
    store(Timings({1: {"a": Timing(1, 1), "b": Timing(2, 2)}}, {"job_seconds": 1.0}))
    store(Timings({1: {"b": Timing(3, 3)}, 2: {"c": Timing(4, 4)}}, {"hop_seconds": 2.0}))
    assert stored() == Timings(
        {1: {"a": Timing(1, 1), "b": Timing(3, 3)}, 2: {"c": Timing(4, 4)}},
        {"job_seconds": 1.0, "hop_seconds": 2.0},
    )


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "{",
        "[]",
        "null",
        '{"tasks": {}}',
        '{"machine": {}, "tasks": {"one": {}}}',
        '{"machine": {}, "tasks": {"1": {"load": [1]}}}',
        '{"machine": {}, "tasks": {"1": {"load": ["fast", 1]}}}',
        '{"machine": {}, "tasks": {"1": {"load": [NaN, 1]}}}',
        '{"machine": {"hop_seconds": -1}, "tasks": {}}',
        "\x00\xff",
    ],
)
def test_a_damaged_file_is_ignored_and_rewritten(cache: Path, damaged: str):
    store(Timings({1: {"a": Timing(1, 1)}}))
    file_in(cache).write_text(damaged, encoding="latin-1")
    assert not stored()
    store(Timings({1: {"b": Timing(2, 2)}}))
    assert stored() == Timings({1: {"b": Timing(2, 2)}})


def test_a_cache_that_cannot_be_written_costs_only_time(cache: Path):
    cache.write_text("a file where the folder should be")
    timings = Timings({1: {"a": Timing(1, 1)}})
    assert store(timings) == timings
    assert not stored()


WRITER = """
import sys
from znn_dask.taskgraph.timings import Timing, Timings, store
for i in range(20):
    store(Timings({1: {f"{sys.argv[1]}-{i}": Timing(i, i)}}))
"""


def test_processes_that_write_at_once_lose_nothing(cache: Path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, name]) for name in "abc"]
    while any(writer.poll() is None for writer in writers):
        for path in cache.glob("timings-*.json"):
            json.loads(path.read_text(encoding="utf-8"))  # never half a file
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert set(stored().tasks[1]) == {f"{name}-{i}" for name in "abc" for i in range(20)}
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".lock"]


def test_files_of_other_versions_do_not_pile_up(cache: Path):
    cache.mkdir()
    for i in range(12):
        old = cache / f"timings-{i:02}.json"
        old.write_text("{}")
        os.utime(old, (i, i))
    store(Timings({1: {"a": Timing(1, 1)}}))
    kept = {path.name for path in cache.glob("timings-*.json")}
    assert len(kept) == 8
    assert {f"timings-{i:02}.json" for i in range(5, 12)} < kept
    assert stored()
