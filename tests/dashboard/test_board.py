"""The board: it takes what comes, stays bounded, and refuses what is no message."""

import zlib
from typing import Any

import pytest
from messages import prediction, training, worker

from znn_dask.dashboard.board import MOST_JOBS, Board, done_blocks


def test_the_last_message_counts() -> None:
    board = Board()
    board.receive(training(1), 100.0)
    board.receive(training(5), 101.0)
    (job,) = board.jobs.values()
    assert job.message["step"] == 5
    assert (job.begun, job.heard, job.reached) == (100.0, 101.0, 5)


def test_jobs_are_bounded_and_ended_ones_go_first() -> None:
    board = Board()
    board.receive(training(id="old"), 0.0)
    for i in range(MOST_JOBS + 10):
        board.receive(training(id=f"ended-{i}", state="finished"), float(i))
    assert len(board.jobs) == MOST_JOBS
    assert "old" in board.jobs
    assert "ended-0" not in board.jobs


def test_histories_are_bounded() -> None:
    board = Board()
    for second in range(500):
        board.receive(training(second), float(second))
        board.sample([worker(engines={"0": [second, 0, 0, 1]})], float(second))
    (job,) = board.jobs.values()
    (process,) = board.processes.values()
    for history in (job.progress, job.history, process.history, process.spectra):
        assert len(history) < 70


def test_updates_that_are_made_again_begin_a_new_rate() -> None:
    board = Board()
    for at, step in ((0.0, 50), (1.0, 60), (2.0, 40)):
        board.receive(training(step), at)
    (job,) = board.jobs.values()
    assert list(job.progress) == [(2.0, 40)]


def test_a_job_whose_client_left_is_lost_and_may_come_back() -> None:
    board = Board()
    board.receive(training(), 0.0)
    board.left("client-2")
    assert board.jobs["training-1"].running
    board.left("client-1")
    assert not board.jobs["training-1"].running
    board.receive(training(11), 9.0)  # a client that was cut off for a while
    assert board.jobs["training-1"].running


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"kind": "poem", "id": "1"},
        training(step="many"),
        prediction([0]) | {"done": b"no bits"},
        prediction([0]) | {"done": zlib.compress(b"")},
        {**prediction([0]), "grid": [1 << 20, 1 << 20, 1]},
        {**prediction([0]), "grid": [0, 1, 1]},
    ],
)
def test_what_is_no_message_changes_nothing(message: dict[str, Any]) -> None:
    board = Board()
    board.receive(training(), 0.0)
    with pytest.raises((KeyError, TypeError, ValueError, zlib.error)):
        board.receive({"id": "training-1", **message}, 1.0)
    assert board.jobs["training-1"].message["step"] == 10


def test_blocks_are_unpacked() -> None:
    assert done_blocks(prediction([0, 5, 23])).nonzero()[0].tolist() == [0, 5, 23]


def test_a_bomb_of_bits_is_not_inflated() -> None:
    message = prediction([0]) | {"done": zlib.compress(bytes(1 << 24))}
    assert len(done_blocks(message)) == 24


def test_workers_of_one_process_are_one_record() -> None:
    board = Board()
    two = [worker(f"tcp://127.0.0.1:{n}", engines={"0": [1, 0, 0, 1]}) for n in (1, 2)]
    board.sample([*two, worker("tcp://127.0.0.1:3", process="3-c")], 0.0)
    assert [len(p.workers) for p in board.processes.values()] == [2, 1]
    assert board.processes["1-a"].threads == 4
    board.sample([], 1.0)
    assert not board.processes


def test_an_engine_that_ends_takes_no_time_back() -> None:
    board = Board()
    for at, engines in enumerate(({"0": [5, 1, 0, 9]}, {"0": [7, 2, 0, 9], "1": [1, 0, 0, 1]}, {})):
        board.sample([worker(engines=engines)], float(at))
    assert board.processes["1-a"].busy == (3.0, 1.0, 0.0)
