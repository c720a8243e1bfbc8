"""Folders of small files, on a disk and on an S3 server: whole or absent, created once."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from znn_dask.jobs.folder import Folder, JobsError, open_folder
from znn_dask.jobs.log import LogWriter, Position, read_log


@pytest.fixture(params=["disk", "memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    name = secrets.token_hex(4)
    if request.param == "disk":
        return open_folder(tmp_path)
    if request.param == "memory":
        return open_folder(f"memory://{name}")
    return open_folder(f"{request.getfixturevalue('bucket')}/{name}")


def test_files(folder: Folder) -> None:
    assert folder.names() == []
    assert folder.names("none") == []
    assert folder.read("a/one") is None
    folder.write("a/one", b"1")
    folder.write("a/one", b"11")
    folder.write("b", b"2")
    assert folder.read("a/one") == b"11"
    assert folder.names() == ["a", "b"]
    assert folder.names("a") == ["one"]
    folder.remove("a")
    folder.remove("a")
    folder.remove("b")
    assert folder.names() == []


def test_of_many_writers_one_creates(folder: Folder) -> None:
    def create(number: int) -> bool:
        return folder.create("claims/1", str(number).encode())

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(create, range(16)))
    assert sum(made) == 1
    assert folder.read("claims/1") == str(made.index(True)).encode()
    assert folder.names("claims") == ["1"]
    # Where the answer to a request was lost and it is sent again, it is ours none the less.
    assert folder.create("claims/1", str(made.index(True)).encode())


def test_a_log_is_read_as_it_grows(folder: Folder) -> None:
    first, second = LogWriter(folder, 1), LogWriter(folder, 2)
    text, position = read_log(folder, Position())
    assert text == ""
    read = []
    for i in range(30):
        writer = first if i < 20 else second
        writer.add(f"{i} " + "x" * 10_000)
        writer.flush()
        if i % 3 == 0:
            text, position = read_log(folder, position)
            read += text.splitlines()
    text, position = read_log(folder, position)
    read += text.splitlines()
    assert [int(line.split()[3]) for line in read] == list(range(30))
    assert len(folder.names("log")) > 3
    assert read_log(folder, position)[0] == ""
    whole, _ = read_log(folder, Position())
    assert whole.splitlines() == read


def test_a_store_that_does_not_answer(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {
        "endpoint_url": "http://127.0.0.1:1",
        "config_kwargs": {"retries": {"total_max_attempts": 1}},
    }
    monkeypatch.setitem(fsspec.config.conf, "s3", nowhere)
    with pytest.raises(OSError, match=f"{bucket}/jobs: Could not connect"):
        open_folder(f"{bucket}/jobs").write("a", b"")


def test_what_cannot_hold_jobs_is_refused() -> None:
    with pytest.raises(JobsError, match="relative: give a path that all workers see"):
        open_folder("jobs")
    with pytest.raises(JobsError, match="http cannot keep two drivers of one job apart"):
        open_folder("http://host/jobs")
