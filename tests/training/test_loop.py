"""The training loop on a session that answers at once: what is submitted when, and clean stops."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from znn_dask.cluster.session import WorkerLostError
from znn_dask.taskgraph.losses import LossRecord
from znn_dask.taskgraph.state import UpdateRule
from znn_dask.training import loop as loop_module
from znn_dask.training.loop import Cadence, Loop, Outcome


@dataclass
class FakeSession:
    """Notes what is asked of it; a "future" is a function that makes the result."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    ahead: int = 0
    most_ahead: int = 0
    on_cut: Callable[[], None] = lambda: None
    newcomers: bool = False

    def train(self, first: int, rules: Iterable[UpdateRule]) -> list[Callable[[], Any]]:
        rules = list(rules)
        self.calls.append(("train", first, len(rules), rules[0].eta))
        self.ahead += 1
        self.most_ahead = max(self.most_ahead, self.ahead)

        def report() -> list[LossRecord]:
            self.ahead -= 1
            return [LossRecord(step, 1.0, 0.0, 2.0) for step in range(first, first + len(rules))]

        return [report]

    def snapshot(self, step: int) -> Callable[[], Any]:
        self.calls.append(("snapshot", step))
        return lambda: ({"w": step}, {"w": -step})

    def validate(self, step: int, patches: int) -> Callable[[], Any]:
        self.calls.append(("validate", step, patches))
        return lambda: LossRecord(step, 3.0, 1.0, 2.0)

    def cut(self, step: int) -> None:
        assert self.ahead == 0, "a cut waits for all that is under way"
        self.calls.append(("cut", step))
        self.on_cut()

    def outdated(self) -> bool:
        return self.newcomers

    def start(self, parameters: Any, momenta: Any, step: int) -> None:
        assert self.ahead == 0, "a new epoch waits for all that is under way"
        self.calls.append(("start", step, parameters, momenta))
        self.newcomers = False

    def result(self, future: Callable[[], Any]) -> Any:
        return future()


def make(session: FakeSession, cadence: Cadence, steps: int = 4) -> Loop:
    return Loop(session, cadence, lambda step: UpdateRule(step, 0.0, 0.0, 1.0), steps)  # type: ignore[arg-type]


def steps_of(outcomes: Iterable[Outcome]) -> list[int]:
    return [record.step for outcome in outcomes for record in outcome.records]


def test_every_update_once_and_in_order_with_its_own_rule():
    session = FakeSession()
    outcomes = list(make(session, Cadence(0, 0, 0)).run(3, 14))
    assert steps_of(outcomes) == list(range(3, 14))
    trains = [call[1:] for call in session.calls if call[0] == "train"]
    assert trains == [(3, 4, 3), (7, 4, 7), (11, 3, 11)]
    assert [outcome.step for outcome in outcomes] == [7, 11, 14]
    assert [o.parameters for o in outcomes] == [None, None, {"w": 14}]  # the end is a checkpoint
    assert session.most_ahead == 3  # the cluster does not wait for the driver


def test_submissions_end_at_checkpoints_and_validations():
    session = FakeSession()
    outcomes = list(make(session, Cadence(5, 6, 2), steps=100).run(0, 13))
    assert [outcome.step for outcome in outcomes] == [5, 6, 10, 12, 13]
    assert [o.validation is not None for o in outcomes] == [False, True, False, True, False]
    assert all(outcome.parameters == {"w": outcome.step} for outcome in outcomes)
    assert ("validate", 6, 2) in session.calls


def test_one_granule_is_at_least_one_update():
    assert steps_of(make(FakeSession(), Cadence(0, 0, 0), steps=0).run(0, 3)) == [0, 1, 2]


def test_stopping_finishes_what_is_under_way_and_takes_a_snapshot():
    session = FakeSession()
    loop = make(session, Cadence(0, 0, 0))
    outcomes = []
    for outcome in loop.run(0, 1000):
        outcomes.append(outcome)
        loop.stop()
        loop.stop()
    assert [outcome.step for outcome in outcomes] == [4, 8, 12]
    assert outcomes[-1].parameters == {"w": 12}
    assert [o.parameters for o in outcomes[:-1]] == [None, None]


def test_stopping_before_anything_ran_submits_nothing():
    session = FakeSession()
    loop = make(session, Cadence(0, 0, 0))
    loop.stop()
    assert list(loop.run(5, 1000)) == []
    assert session.calls == []


def test_stopping_at_a_checkpoint_takes_no_second_snapshot():
    session = FakeSession()
    loop = make(session, Cadence(4, 0, 0))
    outcomes = []
    for outcome in loop.run(0, 1000):
        outcomes.append(outcome)
        loop.stop()
    assert [call for call in session.calls if call[0] == "snapshot"] == [
        ("snapshot", step) for step in (4, 8, 12)
    ]
    assert all(outcome.parameters for outcome in outcomes)


@pytest.mark.parametrize("stopping", [False, True])
def test_a_lost_worker_ends_only_what_is_stopping(stopping: bool, monkeypatch: pytest.MonkeyPatch):
    session = FakeSession()
    loop = make(session, Cadence(4, 0, 0))
    outcomes = loop.run(0, 1000)
    assert next(outcomes).parameters == {"w": 4}

    def lost(future: Callable[[], Any]) -> Any:
        raise WorkerLostError("worker tcp://10.0.0.1:1 has left the cluster")

    monkeypatch.setattr(session, "result", lost)
    if stopping:
        loop.stop()
        assert list(outcomes) == []
    else:
        with pytest.raises(WorkerLostError):
            next(outcomes)


def test_the_lineage_is_cut_from_time_to_time(monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(loop_module.time, "monotonic", lambda: next(clock))
    session = FakeSession()
    outcomes = list(make(session, Cadence(0, 0, 0)).run(0, 60))
    assert steps_of(outcomes) == list(range(60))
    cuts = [call[1] for call in session.calls if call[0] == "cut"]
    assert len(cuts) >= 2
    assert cuts == sorted(set(cuts))


def test_stopping_during_a_cut_loses_nothing(monkeypatch: pytest.MonkeyPatch):
    """Nothing is under way then, but the updates since the last checkpoint are not saved yet."""
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(loop_module.time, "monotonic", lambda: next(clock))
    session = FakeSession()
    loop = make(session, Cadence(0, 0, 0))
    session.on_cut = loop.stop
    outcomes = list(loop.run(0, 1000))
    done = outcomes[-1].step
    assert done == session.calls[-1][1] > 0
    assert outcomes[-1].parameters == {"w": done}
    assert steps_of(outcomes) == list(range(done))


def test_there_is_a_snapshot_at_every_cut(monkeypatch: pytest.MonkeyPatch):
    """In memory, not as a checkpoint: what is lost with a worker is made again from there."""
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr(loop_module.time, "monotonic", lambda: next(clock))
    session = FakeSession()
    outcomes = list(make(session, Cadence(0, 0, 0)).run(0, 60))
    cuts = [call[1] for call in session.calls if call[0] == "cut"]
    kept = [o for o in outcomes if o.parameters is not None]
    assert [o.step for o in kept if not o.checkpoint] == cuts
    assert [o.step for o in kept if o.checkpoint] == [60]
    assert all(o.parameters == {"w": o.step} for o in kept)


def test_newcomers_get_the_state_as_it_is(monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr(loop_module.time, "monotonic", lambda: next(clock))
    session = FakeSession()
    outcomes = []
    for outcome in make(session, Cadence(0, 0, 0)).run(0, 60):
        outcomes.append(outcome)
        session.newcomers = session.newcomers or outcome.step == 8
    assert steps_of(outcomes) == list(range(60))  # each update once
    ((_, step, parameters, momenta),) = [call for call in session.calls if call[0] == "start"]
    assert 8 <= step < 30
    assert (parameters, momenta) == ({"w": step}, {"w": -step})


@pytest.mark.parametrize(
    ("cadence", "step", "stop"),
    [
        (Cadence(5, 0, 0), 0, 5),
        (Cadence(5, 0, 0), 5, 10),
        (Cadence(5, 3, 1), 5, 6),
        (Cadence(5, 3, 0), 5, 10),  # no patches to validate on: no validation
        (Cadence(0, 3, 1), 7, 9),
    ],
)
def test_the_next_stop(cadence: Cadence, step: int, stop: int):
    assert cadence.next_stop(step) == stop


def test_every_validation_is_a_checkpoint():
    cadence = Cadence(4, 6, 1)
    assert [s for s in range(1, 13) if cadence.checkpoints_at(s)] == [4, 6, 8, 12]
    assert [s for s in range(1, 13) if cadence.validates_at(s)] == [6, 12]
    assert not any(Cadence(0, 0, 0).checkpoints_at(s) for s in range(20))
