"""What records mean, which jobs get a driver, and how they are shown: all of it pure."""

from dataclasses import replace
from typing import Any

import pytest

from znn_dask.jobs.policy import SILENT_SECONDS, Silence, under_way, without_driver
from znn_dask.jobs.records import (
    Claim,
    Description,
    End,
    History,
    Outcome,
    Progress,
    Request,
    decode,
    encode,
)
from znn_dask.jobs.state import (
    cancel_wished,
    has_begun,
    is_over,
    out_of_patience,
    pause_before,
    state_of,
    steps_done,
)
from znn_dask.jobs.table import table

DESCRIPTION = Description("training", "tissue", 1000.0, {})


def claim(attempt: int, step: int = 0, begun: bool = False) -> Claim:
    return Claim(attempt, "tcp://worker", 0.0, step, None, begun, f"token-{attempt}")


def end(attempt: int, outcome: Outcome, step: int = 0, seen: int = 0) -> End:
    return End(attempt, outcome, f"why {attempt}", 0.0, step, seen, "token")


def request(number: int, wish: Any) -> Request:
    return Request(number, wish, 0.0, "token")


def history(
    *records: Claim | End | Request,
    progress: Progress | None = None,
    job: str = "j",
    time: float = 0,
) -> History:
    return History(
        id=job,
        description=replace(DESCRIPTION, time=1000.0 + time),
        requests=tuple(r for r in records if isinstance(r, Request)),
        claims=tuple(r for r in records if isinstance(r, Claim)),
        ends={r.attempt: r for r in records if isinstance(r, End)},
        progress=progress,
    )


@pytest.mark.parametrize(
    ("records", "state"),
    [
        ([], "waiting"),
        ([claim(1)], "running"),
        ([claim(1), claim(2)], "running"),
        ([claim(1), end(1, "interrupted")], "waiting"),
        ([claim(1), end(1, "interrupted"), claim(2)], "running"),
        ([claim(1), end(1, "completed")], "completed"),
        ([claim(1), end(1, "failed")], "failed"),
        ([request(1, "cancel")], "cancelling"),
        ([claim(1), request(1, "cancel")], "cancelling"),
        ([claim(1), request(1, "cancel"), end(1, "interrupted")], "cancelling"),
        ([claim(1), request(1, "cancel"), request(2, "resume")], "running"),
        ([claim(1), request(1, "cancel"), end(1, "cancelled", seen=1)], "cancelled"),
        # The end of a driver that was replaced says nothing.
        ([claim(1), end(1, "completed"), claim(2)], "running"),
        # Wishes that came after the end.
        ([claim(1), end(1, "cancelled", seen=1), request(2, "resume")], "waiting"),
        ([claim(1), end(1, "failed"), request(1, "resume")], "waiting"),
        ([claim(1), end(1, "completed"), request(1, "resume")], "completed"),
        ([claim(1), end(1, "completed"), request(1, "cancel")], "completed"),
        ([claim(1), end(1, "failed"), request(1, "resume"), claim(2)], "running"),
    ],
)
def test_state(records: list[Any], state: str) -> None:
    known = history(*records)
    assert state_of(known) == state
    assert is_over(known) == (state in ("completed", "failed", "cancelled"))
    assert cancel_wished(known) == (state == "cancelling")


def test_records_survive_their_files() -> None:
    named = replace(claim(2, 40), origin=(1, "step-40"))
    assert decode(Claim, encode(named)) == named
    assert decode(Claim, encode(claim(1))) == claim(1)
    assert decode(Progress, encode(Progress(1, rate=2.5))) == Progress(1, rate=2.5)


def test_steps_are_those_of_the_newest_word() -> None:
    assert steps_done(history()) == 0
    assert steps_done(history(claim(1, 20))) == 20
    assert steps_done(history(claim(1, 20), progress=Progress(1, step=33))) == 33
    ended = history(claim(1, 20), end(1, "cancelled", step=35), progress=Progress(1, step=33))
    assert steps_done(ended) == 35


def test_a_prediction_that_began_is_never_overwritten() -> None:
    assert not has_begun(history(claim(1)))
    assert has_begun(history(claim(1), progress=Progress(1, begun=True)))
    assert has_begun(history(claim(1), claim(2, begun=True)))


def test_attempts_that_bring_nothing_come_ever_more_seldom() -> None:
    pauses = [
        pause_before(history(*(claim(i + 1, 20) for i in range(count)))) for count in range(12)
    ]
    assert pauses[:5] == [0, 0, 1, 2, 4]
    assert pauses[-1] == 60
    assert pause_before(history(claim(1, 20), claim(2, 20), claim(3, 40))) == 0


def test_patience_ends_after_five_interruptions_at_one_place() -> None:
    records: list[Any] = []
    for attempt in range(1, 5):
        records += [claim(attempt, 20), end(attempt, "interrupted")]
        assert not out_of_patience(history(*records), claim(attempt, 20))
    assert out_of_patience(history(*records, claim(5, 20)), claim(5, 20))
    assert not out_of_patience(history(*records, claim(5, 40)), claim(5, 40))
    del records[3]  # one of them died with its worker: that is not the job's fault
    assert not out_of_patience(history(*records, claim(5, 20)), claim(5, 20))


def test_first_come_first_served() -> None:
    late, early = history(job="a", time=2), history(job="b", time=1)
    lost = history(claim(3), job="c", time=0)
    ended = history(claim(1), end(1, "interrupted"), job="d", time=3)
    jobs = [("f", job) for job in (late, early, lost, ended)]

    def ids(**known: Any) -> list[str]:
        given = {"driven": (), "dead": {}, "silent": ()} | known
        return [job.id for _, job in without_driver(jobs, **given)]

    assert ids() == ["b", "a", "d"]  # c may have a driver that another scheduler started
    assert ids(dead={("f", "c"): 2}) == ["b", "a", "d"]
    assert ids(dead={("f", "c"): 3}) == ["c", "b", "a", "d"]
    assert ids(silent={("f", "c")}) == ["c", "b", "a", "d"]
    assert ids(driven={("f", "b")}, silent={("f", "b")}) == ["a", "d"]


def test_a_driver_that_may_live_takes_up_room() -> None:
    waiting, running = ("f", history(job="a")), ("f", history(claim(1), job="b"))
    interrupted = ("f", history(claim(1), end(1, "interrupted"), job="c"))
    jobs = [waiting, running, interrupted]
    assert under_way(jobs, without_driver(jobs, (), {}, ())) == [running]
    assert under_way(jobs, without_driver(jobs, (), {("f", "b"): 1}, ())) == []


def test_silence_is_told_by_our_own_clock() -> None:
    silence = Silence()
    job = history(claim(1), progress=Progress(1, beat=1))
    later = history(claim(1), progress=Progress(1, beat=2))
    assert not silence.silent([("f", job)], 0.0)
    assert not silence.silent([("f", job)], SILENT_SECONDS - 1)
    assert not silence.silent([("f", later)], SILENT_SECONDS + 1)
    assert not silence.silent([("f", later)], 2 * SILENT_SECONDS)
    assert silence.silent([("f", later)], 2 * SILENT_SECONDS + 1) == {("f", "j")}


def test_table() -> None:
    def row(known: History, now: float) -> str:
        return table([known], now).splitlines()[1]

    going = Progress(1, time=1000.0, step=1500, last=2000, rate=12.34, loss=0.25)
    running = history(claim(1), progress=going, job="20260301-101500-3f2a")
    head = table([running], now=1030.0).splitlines()[0]
    assert head.split() == [
        *("id", "title", "kind", "state", "progress", "rate", "loss", "age", "attempts")
    ]
    shown = row(running, 1030.0)
    assert shown.startswith("20260301-101500-3f2a  tissue")
    for text in ("running  ", "1,500 of 2,000", "12.3 updates/s", "0.25", "30 s"):
        assert text in shown
    assert "running, silent for 3 min" in row(running, 1200.0)
    assert row(history(), 1030.0).split() == [
        *("j", "tissue", "training", "waiting", "-", "-", "-", "30", "s", "0")
    ]
