"""Attempts: one claim for each number, and nothing said by one that was replaced."""

from pathlib import Path

import pytest

from znn_dask.jobs import entries
from znn_dask.jobs.attempt import Attempt, SupersededError, conclude
from znn_dask.jobs.folder import JobsError
from znn_dask.jobs.log import Position
from znn_dask.jobs.records import Description, History
from znn_dask.jobs.state import state_of


@pytest.fixture
def job(tmp_path: Path) -> str:
    return entries.enter(str(tmp_path), Description("prediction", "map", 1000.0, {}))


def known(folder: Path, job: str) -> History:
    return entries.history(str(folder), job)


def begin(folder: Path, job: str, number: int) -> Attempt | None:
    return Attempt.begin(str(folder), job, number, f"worker-{number}")


def test_one_driver_claims_a_number(tmp_path: Path, job: str) -> None:
    first = begin(tmp_path, job, 1)
    assert first is not None
    assert begin(tmp_path, job, 1) is None
    assert begin(tmp_path, job, 3) is None
    assert state_of(known(tmp_path, job)) == "running"
    with pytest.raises(FileNotFoundError, match="worker-1 does not see the job none"):
        begin(tmp_path, "none", 1)


def test_a_replaced_driver_is_stopped_and_not_heard(tmp_path: Path, job: str) -> None:
    first = begin(tmp_path, job, 1)
    assert first is not None
    first.report(step=7, last=9)
    first.beat()
    first.check()
    assert not first.stopping
    second = begin(tmp_path, job, 2)
    assert second is not None
    assert second.claim.step == 7
    first.beat()
    assert first.stopping
    with pytest.raises(SupersededError, match="attempt 2 took the place of 1"):
        first.check()
    with pytest.raises(SupersededError):
        first.end("completed")
    assert state_of(known(tmp_path, job)) == "running"
    second.end("completed", "map in out")
    assert state_of(known(tmp_path, job)) == "completed"
    assert begin(tmp_path, job, 3) is None  # it is over
    assert "[1] completed" in entries.log_after(str(tmp_path), job, Position())[0]


def test_what_began_stays_begun(tmp_path: Path, job: str) -> None:
    """However early the attempts after that one die."""
    first = begin(tmp_path, job, 1)
    assert first is not None
    first.report(begun=True)
    first.beat()
    for number in (2, 3, 4):
        later = begin(tmp_path, job, number)
        assert later is not None
        assert later.claim.begun


def test_a_wish_to_go_on_is_not_lost(tmp_path: Path, job: str) -> None:
    first = begin(tmp_path, job, 1)
    assert first is not None
    entries.wish(str(tmp_path), job, "cancel")
    first.beat()
    assert first.stopping
    entries.wish(str(tmp_path), job, "resume")  # the driver is ending already
    first.end("cancelled", "after update 7")
    assert state_of(known(tmp_path, job)) == "waiting"


def test_a_job_without_a_driver_is_ended_from_outside(tmp_path: Path, job: str) -> None:
    begin(tmp_path, job, 1)
    entries.wish(str(tmp_path), job, "cancel")
    conclude(str(tmp_path), job, 1, "scheduler", "cancelled", "taken")  # that number is taken
    assert state_of(known(tmp_path, job)) == "cancelling"
    conclude(str(tmp_path), job, 2, "scheduler", "cancelled", "no driver was at it")
    assert state_of(known(tmp_path, job)) == "cancelled"
    with pytest.raises(JobsError, match="is over: it was cancelled: no driver was at it"):
        entries.wish(str(tmp_path), job, "cancel")


def test_names_may_be_shortened(tmp_path: Path, job: str) -> None:
    other = entries.enter(str(tmp_path), Description("prediction", "map", 2000.0, {}))
    assert entries.find(str(tmp_path), job[-4:]) == job
    assert entries.find(str(tmp_path), other) == other
    with pytest.raises(JobsError, match=f"'1970' may be any of {job}, {other}: give more of it"):
        entries.find(str(tmp_path), "1970")
    with pytest.raises(JobsError, match=r"no job 'x' in .*: there are 1970"):
        entries.find(str(tmp_path), "x")
