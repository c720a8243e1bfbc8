"""Recorded events: the rule answers a real engine as it would answer anybody."""

import json

import pytest
from recorded import RECORDING, Event, record, replay


def check(events: list[Event]) -> None:
    """A recording is one of a whole run: every job is added, taken and finished once, in order."""
    place = {}
    for at, (kind, job, *_) in enumerate(events):
        if job is not None:
            assert (kind, job) not in place
            place[kind, job] = at
    jobs = [event for event in events if event[0] == "add"]
    for _, job, *_, needs in jobs:
        assert place["add", job] < place["take", job] < place["finish", job]
        assert all(place["finish", need] < place["take", job] for need in needs)


def test_the_recording_is_answered_as_it_was():
    events = json.loads(RECORDING.read_text(encoding="utf-8"))
    check(events)
    kinds = {event[2] for event in events if event[0] == "add"}
    assert {"load", "forward", "loss", "backward", "kernel_gradient", "update"} <= kinds
    assert any(event[0] == "take" and event[2] for event in events), "nothing was forced"
    assert replay(events) == events


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_real_run_is_answered_as_by_a_rule_without_threads(threads: int):
    events = json.loads(json.dumps(record(updates=6, threads=threads)))
    check(events)
    assert replay(events) == events
