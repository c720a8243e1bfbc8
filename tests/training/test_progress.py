"""Progress: lines away from terminals, a bar in them, rates, durations."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from znn_dask.training.curve import LearningCurve
from znn_dask.training.progress import TrainingProgress, duration, track


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def file_console() -> Console:
    return Console(file=io.StringIO(), width=200)


def terminal() -> Console:
    return Console(
        file=io.StringIO(), width=200, force_terminal=True, color_system=None, _environ={}
    )


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_lines_every_so_often_and_at_the_end():
    console, clock = file_console(), Clock()
    with TrainingProgress(
        100, start=10, voxels_per_update=1000, console=console, every=10, clock=clock
    ) as progress:
        for step in range(11, 34):
            clock.now += 1
            progress.update(step, 1 / step)
            if step == 20:
                progress.validated(0.25)
    assert text(console).splitlines() == [
        "update 11 of 100: loss 0.09091, 1 updates/s, 1 kvoxels/s, 89 s left",
        "update 21 of 100: loss 0.04762, validation 0.25, 1 updates/s, 1 kvoxels/s, 79 s left",
        "update 31 of 100: loss 0.03226, validation 0.25, 1 updates/s, 1 kvoxels/s, 69 s left",
        "update 33 of 100: loss 0.0303, validation 0.25, 1 updates/s, 1 kvoxels/s, 67 s left",
    ]


def test_nothing_done_prints_nothing():
    console = file_console()
    with TrainingProgress(100, console=console):
        pass
    assert text(console) == ""


def test_rate_follows_the_last_half_minute():
    clock = Clock()
    progress = TrainingProgress(10**6, console=file_console(), clock=clock)
    step = 0
    for rate in (1, 50):
        for _ in range(60):
            clock.now += 1
            step += rate
            progress.update(step, 0.5)
    assert "50 updates/s" in progress.summary()


def test_updates_in_the_same_instant():
    progress = TrainingProgress(10, console=file_console(), clock=Clock())
    progress.update(1, 0.5)
    progress.update(2, 0.5)
    assert progress.summary() == "loss 0.5"


def test_bar_in_a_terminal():
    console, clock = terminal(), Clock()
    with TrainingProgress(4, voxels_per_update=8, console=console, clock=clock) as progress:
        for step in range(1, 5):
            clock.now += 0.5
            progress.update(step, 0.125)
        progress.message("checkpoint [saved]")
    assert "training" in text(console)
    assert "4/4" in text(console)
    assert "loss 0.125, 2 updates/s, 16 voxels/s, 0 s left" in text(console)
    assert "checkpoint [saved]" in text(console)


def test_a_terminal_draws_the_curve_in_a_line_of_text():
    console, clock, curve = terminal(), Clock(), LearningCurve()
    with TrainingProgress(4, curve=curve, console=console, clock=clock) as progress:
        for step in range(1, 5):
            clock.now += 2.0
            curve.train.append(step, 1 / step, 0.5, clock.now)
            progress.update(step, 1 / step)
    assert "█▅▃▃ loss 0.25" in text(console)


def test_a_failure_passes_through():
    def fail() -> None:
        with TrainingProgress(4, console=terminal()):
            raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        fail()


def test_track_is_quiet_when_quick_and_talks_when_slow():
    console, clock = file_console(), Clock()
    assert list(track(range(5), "blocks", console=console, clock=clock)) == [0, 1, 2, 3, 4]
    assert text(console) == ""

    def slow() -> Iterator[int]:
        for item in range(4):
            clock.now += 20
            yield item

    assert list(track(slow(), "blocks", console=console, clock=clock)) == [0, 1, 2, 3]
    assert text(console).splitlines() == ["blocks: 2", "blocks: 4"]
    list(track(slow(), "blocks", total=4000, console=console, clock=clock, every=70))
    assert text(console).splitlines()[2:] == ["blocks: 4 of 4,000"]
    list(track(slow(), "map", 9, done=5, voxels=lambda _: 1000, console=console, clock=clock))
    assert text(console).splitlines()[3:] == [
        "map: 7 of 9, 50 voxels/s",
        "map: 9 of 9, 50 voxels/s",
    ]


def test_track_in_a_terminal():
    console = terminal()
    assert list(track([1, 2, 3], "blocks", console=console)) == [1, 2, 3]
    assert "blocks" in text(console)
    assert "3/3" in text(console)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1, "0 s"),
        (42.4, "42 s"),
        (89.9, "90 s"),
        (12 * 60, "12 min"),
        (3 * 3600 + 5 * 60, "3 h 05 min"),
        (52 * 3600, "2 d 4 h"),
    ],
)
def test_durations(seconds, expected):
    assert duration(seconds) == expected
