"""What is shown of a board: rates, shares, layers and blocks."""

import json
import math

import pytest
from messages import prediction, training, worker

from znn_dask.dashboard.board import Board
from znn_dask.dashboard.routes import plain
from znn_dask.dashboard.view import view


def test_nothing_is_an_empty_view() -> None:
    assert view(Board(), 5.0) == {"time": 5.0, "trainings": [], "predictions": [], "workers": []}


def test_rates_and_time_left() -> None:
    board = Board()
    for second in range(11):
        board.receive(training(2 * second), float(second))
    (job,) = view(board, 10.5)["trainings"]
    assert job["updates_per_second"] == pytest.approx(2.0)
    assert job["voxels_per_second"] == pytest.approx(2000.0)
    assert job["seconds_left"] == pytest.approx(40.0)
    assert job["loss"] == 0.5
    assert job["validation_loss"] is None


def test_the_rate_of_a_silent_driver_falls() -> None:
    board = Board()
    for second in range(11):
        board.receive(training(second), float(second))
    (job,) = view(board, 100.0)["trainings"]
    assert job["updates_per_second"] == pytest.approx(0.1)
    assert job["silent_seconds"] == 90.0


def test_shares_add_up() -> None:
    board = Board()
    for second in range(11):
        board.sample([worker(engines={"0": [0.8 * second, 0.4 * second, 0.2 * second, 9]})], second)
    (process,) = view(board, 10.0)["workers"]
    shares = process["shares"]
    assert shares == pytest.approx({"type-1": 0.4, "type-2": 0.2, "forced": 0.1, "idle": 0.3})


def test_more_work_than_time_is_all_of_the_time() -> None:
    board = Board()
    for second, busy in enumerate((0.0, 0.0, 90.0)):  # a long job counts when it ends
        board.sample([worker(engines={"0": [busy, 0, 0, 1]})], float(second))
    (process,) = view(board, 2.0)["workers"]
    assert process["shares"] == {"type-1": 1.0, "type-2": 0.0, "forced": 0.0, "idle": 0.0}


def test_a_worker_without_engine_is_idle() -> None:
    board = Board()
    for second in range(3):
        board.sample([worker()], float(second))
    (process,) = view(board, 2.0)["workers"]
    assert process["shares"]["idle"] == 1.0


def test_spectra_are_those_of_the_moment_that_had_most() -> None:
    board = Board()
    sizes = ({"kernels": 5}, {"kernels": 3, "inputs": 7}, {})
    for second, spectra in enumerate(sizes):
        board.sample([worker(spectra=spectra)], float(second))
    (process,) = view(board, 2.0)["workers"]
    assert process["spectra_bytes"] == {"kernels": 3, "inputs": 7}


def test_layers_are_node_groups_with_their_edges() -> None:
    board = Board()
    for at in range(3):
        board.receive(training(10 * at), float(at))
        rows = [
            ["forward", "nc1", 0.2 * at],
            ["backward", "nc1", 0.1 * at],
            ["kernel_gradient", "c1", 0.05 * at],
            ["load", "", 0.01 * at],
        ]
        other = {"job-10": [["forward", "nc1", 1e6 * at]]}
        both = [worker(seconds={"job-1": rows, **other}), worker("b", "2", seconds={"job-1": rows})]
        board.sample(both, float(at))
    (job,) = view(board, 2.0)["trainings"]
    layer, patches = job["layers"]
    assert layer["layer"] == "nc1"
    assert layer["passes"] == pytest.approx(
        {"forward": 40.0, "backward": 20.0, "kernel gradients": 10.0}
    )
    assert patches == {"layer": "patches", "passes": {"loading": pytest.approx(2.0)}}


def test_two_trainings_are_apart() -> None:
    board = Board()
    board.receive(training(1), 0.0)
    board.receive(training(7, id="training-2", job="job-2", title="other"), 1.0)
    jobs = {job["title"]: job["step"] for job in view(board, 1.0)["trainings"]}
    assert jobs == {"run": 1, "other": 7}


def test_running_jobs_come_first() -> None:
    board = Board()
    board.receive(training(id="a", state="finished"), 5.0)
    board.receive(training(id="b"), 1.0)
    assert [job["id"] for job in view(board, 6.0)["trainings"]] == ["b", "a"]


def test_blocks_that_are_done_running_and_missing() -> None:
    board = Board()
    board.receive(prediction([0, 1, 2, 7]), 0.0)
    board.receive(prediction([0, 1, 2, 3, 7]), 10.0)
    under_way = {("run1-abc", 5), ("run1-abc", 3), ("run10-abc", 9)}
    (job,) = view(board, 10.0, under_way)["predictions"]
    assert job["done_ranges"] == [[0, 3], [7, 7]]
    assert job["running"] == [4, 5]  # 3 is done, 4 just finished, 9 another prediction's
    assert (job["done"], job["blocks"]) == (5, 24)
    assert job["voxels_per_second"] == pytest.approx(80.0)


def test_json_has_no_numbers_that_are_none() -> None:
    assert json.dumps(plain({"a": [math.nan, 1.5, (math.inf,)]}), allow_nan=False) == (
        '{"a": [null, 1.5, [null]]}'
    )


def test_a_loss_that_is_not_finite_is_shown() -> None:
    board = Board()
    board.receive(training(train={"step": [1], "loss": [math.nan]}), 0.0)
    (job,) = view(board, 0.0)["trainings"]
    assert math.isnan(job["loss"])
