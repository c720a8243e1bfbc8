"""The checkpoints of a job over its attempts: which belong to it, which are kept."""

import pytest

from znn_dask.jobs import checkpoints
from znn_dask.jobs.checkpoints import best_of, job_checkpoints, origin_of, prune
from znn_dask.jobs.records import Claim
from znn_dask.training.checkpoint import CheckpointInfo

Folders = dict[str, list[CheckpointInfo]]


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Attempt 1 was replaced after update 20 and wrote on; 2 died at once; 3 wrote what counts."""

    def info(folder: str, step: int, sequence: int, loss: float | None = None) -> CheckpointInfo:
        name = f"step-{step:010d}-20260301T101500Z-0000000{sequence}"
        return CheckpointInfo(f"{folder}/{name}", name, step, sequence, loss, "digest")

    first, third = "job/checkpoints/000001", "job/checkpoints/000003"
    held: Folders = {
        first: [
            info(first, 10, 1, 0.2),
            info(first, 20, 2, 0.3),
            info(first, 30, 3, 0.1),  # of the driver that only seemed dead
        ],
        third: [info(third, 30, 1, 0.25), info(third, 40, 2), info(third, 50, 3)],
    }

    def remove(path: str) -> None:
        folder = held[path.rpartition("/")[0]]
        folder[:] = [info for info in folder if info.path != path]

    monkeypatch.setattr(checkpoints, "list_checkpoints", lambda folder: held.get(folder, []))
    monkeypatch.setattr(checkpoints, "remove_checkpoint", remove)
    return held


def claim(attempt: int, step: int, origin: int | None) -> Claim:
    name = None if origin is None else (origin, f"step-{step:010d}-20260301T101500Z-00000002")
    return Claim(attempt, "worker", 0.0, step, name, False, "token")


CLAIMS = [claim(1, 0, None), claim(2, 20, 1), claim(3, 20, 1)]


def steps(line: list[checkpoints.Kept]) -> list[tuple[int, int]]:
    return [(kept.attempt, kept.info.step) for kept in line]


def test_what_was_written_after_a_later_claim_is_not_read(folders: Folders) -> None:
    line = job_checkpoints("job", CLAIMS)
    assert steps(line) == [(1, 10), (1, 20), (3, 30), (3, 40), (3, 50)]
    assert origin_of(line) == (3, line[-1].info.name)
    assert best_of(line) is line[0]
    assert steps(job_checkpoints("job", CLAIMS[:2])) == [(1, 10), (1, 20)]
    assert steps(job_checkpoints("job", CLAIMS[:1])) == [(1, 10), (1, 20), (1, 30)]
    assert job_checkpoints("job", []) == []
    assert origin_of([]) is None
    assert best_of([]) is None


def test_the_best_and_the_last_are_kept_over_all_attempts(folders: Folders) -> None:
    prune(job_checkpoints("job", CLAIMS), 2)
    assert steps(job_checkpoints("job", CLAIMS)) == [(1, 10), (3, 40), (3, 50)]
    # The place where attempt 3 began is gone by now; what the old driver wrote stays unread.
    assert [info.step for info in folders["job/checkpoints/000001"]] == [10, 30]
