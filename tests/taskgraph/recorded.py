"""Events of a real engine, written down as they reach its rule, and played to another rule.

python tests/taskgraph/recorded.py      records tests/taskgraph/recordings/two_updates.json anew
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from znn_dask.cluster import work
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.network import Network
from znn_dask.taskgraph import choose_arithmetic
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.rule import Job, JobState, Rule
from znn_dask.taskgraph.state import UpdateRule
from znn_dask.training.initial import initial_parameters

RECORDING = Path(__file__).parent / "recordings" / "two_updates.json"
NETWORK = (
    Network().input().conv("c1", 16, (1, 5, 5)).conv("c2", 2, (1, 3, 3), "linear", node="output")
)
SIZE = (1, 30, 30)

Event = Sequence[Any]
"""("add", job, kind, layer, block, type, priority, needs), ("take", job or None, forced),
("finish", job), ("fail", job); jobs are numbered as they come."""


class RecordingRule(Rule):
    """ZNN's rule, keeping what it is told and what it answers; the engine's lock is held."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self._numbers: dict[Job, int] = {}

    def add(self, job: Job) -> None:
        number = self._numbers[job] = len(self._numbers)
        needs = [self._numbers[need] for need in job.needs]
        self.events.append(["add", number, *job.name, job.type, list(job.priority), needs])
        super().add(job)

    def take(self) -> Job | None:
        job = super().take()
        self.events.append(
            ["take", self._numbers[job], job.forced] if job else ["take", None, False]
        )
        return job

    def finish(self, job: Job) -> None:
        self.events.append(["finish", self._numbers[job]])
        super().finish(job)

    def fail(self, job: Job, error: BaseException) -> list[Job]:
        if job.state is JobState.RUNNING:  # the others fail in `add`, for a need's sake
            self.events.append(["fail", self._numbers[job]])
        return super().fail(job, error)


def replay(events: Sequence[Event]) -> list[Event]:
    """The same events with the answers that a new rule gives."""
    rule, jobs = RecordingRule(), list[Job]()
    for kind, *rest in events:
        if kind == "add":
            _, *name, type, priority, needs = rest
            job = Job(tuple(name), type, tuple(priority), [jobs[n] for n in needs])
            jobs.append(job)
            rule.add(job)
        elif kind == "take":
            rule.take()
        elif kind == "finish":
            rule.finish(jobs[rest[0]])
        else:
            rule.fail(jobs[rest[0]], ArithmeticError(str(rest[0])))
    return rule.events


def record(updates: int, threads: int) -> list[Event]:
    """What the rule of a real engine saw while a small network was trained."""
    made: list[RecordingRule] = []

    def rule() -> RecordingRule:
        made.append(RecordingRule())
        return made[-1]

    engine = Engine(threads, rule=rule)
    source = noise_source(NETWORK, SIZE)
    spec = TrainingSpec(NETWORK, choose_arithmetic(NETWORK, SIZE), "square", source)
    context = Context(spec, engine)
    state = work.new_state(context, initial_parameters(NETWORK, 0, "float32"), None, 0)
    state = work.train(context, state, 0, [UpdateRule(1e-3, 0.9, 0.0, 1e-3)] * updates)
    engine.wait(state.jobs.values())
    engine.close()
    return made[0].events


if __name__ == "__main__":
    RECORDING.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(event) for event in record(updates=2, threads=2))
    RECORDING.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
