"""The engine under stress: many submitters, failures, threads that come and go, a close."""

import random
import threading
import time
from collections.abc import Callable

import pytest

from znn_dask.taskgraph.engine import Engine, EngineClosedError, TaskError
from znn_dask.taskgraph.rule import Job, JobState

SECONDS = 60.0  # nothing here takes so long: whoever waits that long is stuck
SUBMITTERS = 6
JOBS = 600  # of each submitter


def run_all(functions: list[Callable[[], None]]) -> None:
    """Each in a thread of its own; fails if one hangs or raises."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(f,), daemon=True) for f in functions]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), "it hangs"
    if errors:
        raise errors[0]


class Submitter:
    """Submits a random graph in pieces and waits for some of it; knows what must come out."""

    def __init__(self, engine: Engine, seed: int, failures: float) -> None:
        self.engine, self.random, self.failures = engine, random.Random(seed), failures
        self.seed = seed
        self.jobs: list[Job] = []
        self.needs: list[list[int]] = []
        self.doomed: set[int] = set()
        self.ran: list[int] = []  # appending is atomic

    def make(self) -> Job:
        i = len(self.jobs)
        draw = self.random
        needs = draw.sample(range(max(0, i - 12), i), min(i, draw.randrange(4)))
        fails = draw.random() < self.failures

        def run() -> None:
            self.ran.append(i)
            if fails:
                raise ValueError(f"job {self.seed}.{i}")

        name = (draw.choice(["forward", "update"]), f"layer{self.seed}", i)
        job = Job(
            name, draw.choice([1, 2]), (draw.randrange(9),), [self.jobs[n] for n in needs], run
        )
        self.jobs.append(job)
        self.needs.append(needs)
        if fails or self.doomed.intersection(needs):
            self.doomed.add(i)
        return job

    def __call__(self) -> None:
        while len(self.jobs) < JOBS:
            self.engine.submit([self.make() for _ in range(self.random.randrange(1, 40))])
            if self.random.random() < 0.5:
                self.check(self.random.randrange(len(self.jobs)))
        for i in range(0, len(self.jobs), 7):
            self.check(i)

    def check(self, i: int) -> None:
        """Wait for a job: it is done, or the error names kind, layer and block of the cause."""
        if i not in self.doomed:
            self.engine.wait([self.jobs[i]])
            assert self.jobs[i].state is JobState.DONE
            return
        with pytest.raises(TaskError, match=rf"layer{self.seed}, block \d+: ValueError") as raised:
            self.engine.wait([self.jobs[i]])
        message = str(raised.value)
        block = int(message.split("block ")[1].split(":")[0])
        assert message.split(" of ")[0] == self.jobs[block].name[0]
        assert message.endswith(f"job {self.seed}.{block}")
        assert block in self.doomed
        assert block in self.ran

    def check_end(self) -> None:
        """All is over: each job ran once, but for those behind a failure."""
        assert len(set(self.ran)) == len(self.ran), "a job ran twice"
        place = {i: at for at, i in enumerate(self.ran)}
        for i, job in enumerate(self.jobs):
            assert job.state is (JobState.FAILED if i in self.doomed else JobState.DONE)
            assert (job.needs, job.run, job.dependents) == ((), None, [])
            if self.doomed.intersection(self.needs[i]):
                assert i not in place
            else:
                assert all(place[need] < place[i] for need in self.needs[i])


@pytest.mark.parametrize("failures", [0.0, 0.01])
def test_many_submitters_while_threads_come_and_go(failures: float):
    engine = Engine(2)
    submitters = [Submitter(engine, seed, failures) for seed in range(SUBMITTERS)]
    over = threading.Event()

    def resize() -> None:
        draw = random.Random(1)
        while not over.is_set():
            engine.grow(draw.randrange(1, 4))
            time.sleep(0.002)
            engine.shrink(engine.threads - 1)  # one always stays
            engine.totals()
            engine.recent()
            time.sleep(0.002)

    resizing = threading.Thread(target=resize, daemon=True)
    resizing.start()
    try:
        run_all([*submitters])
    finally:
        over.set()
        resizing.join(SECONDS)
    run_all([engine.close])
    for submitter in submitters:
        submitter.check_end()
    assert engine.threads == 0
    succeeded = sum(len(s.ran) for s in submitters) - sum(
        i in s.doomed for s in submitters for i in s.ran
    )
    assert engine.totals().jobs == succeeded


def test_closing_finishes_what_was_accepted_and_refuses_the_rest():
    engine = Engine(3)
    submitters = [Submitter(engine, seed, 0.005) for seed in range(SUBMITTERS)]
    refused: list[int] = []

    def until_closed(submitter: Submitter) -> None:
        try:
            while True:
                submitter.engine.submit([submitter.make()])
        except EngineClosedError:
            refused.append(submitter.seed)
            submitter.jobs.pop()  # the one that was not taken
            submitter.doomed.discard(len(submitter.jobs))

    def close() -> None:
        time.sleep(0.1)
        engine.close()

    run_all([*(lambda s=s: until_closed(s) for s in submitters), close])
    assert sorted(refused) == list(range(SUBMITTERS))
    assert sum(len(s.jobs) for s in submitters) > SUBMITTERS
    for submitter in submitters:
        submitter.check_end()


def test_waiters_are_told_when_what_they_wait_for_fails_while_others_go_on():
    engine = Engine(2)
    go = threading.Event()

    def fail() -> None:
        assert go.wait(SECONDS)
        raise ValueError("late")

    bad = Job(("backward", "conv1", 2), 1, (0,), (), fail)
    behind = [Job(("update", "conv1", i), 2, (1,), (bad,), None) for i in range(500)]
    fine = [Job(("forward", "conv2", i), 1, (2,), (), None) for i in range(500)]
    engine.submit([bad, *behind, *fine])
    told: list[str] = []

    def wait(job: Job) -> None:
        with pytest.raises(TaskError) as raised:
            engine.wait([*fine, job])
        told.append(str(raised.value))

    waiters: list[Callable[[], None]] = [lambda job=job: wait(job) for job in behind[::25]]
    run_all([*waiters, lambda: time.sleep(0.05) or go.set()])
    assert set(told) == {"backward of conv1, block 2: ValueError: late"}
    assert len(told) == len(waiters)
    run_all([engine.close])
    assert all(job.state is JobState.DONE for job in fine)
