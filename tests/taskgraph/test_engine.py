"""The engine: real threads around the rule."""

import gc
import itertools
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.taskgraph import engine as engine_module
from znn_dask.taskgraph.engine import Engine, EngineClosedError, TaskError
from znn_dask.taskgraph.rule import Job, JobState

SECONDS = 10.0  # nothing here takes so long: whoever waits that long is stuck


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Two threads, which must be able to stop when the test is over."""
    engine = Engine(2)
    yield engine
    within(SECONDS, engine.close)


def within(seconds: float, function: Callable[[], object]) -> None:
    """Call `function` in a thread of its own and fail if it hangs."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]


def job(
    layer: str, run: Callable[[], object] | None, *needs: Job, type: int = 1, rank: int = 0
) -> Job:
    return Job(("forward", layer, 3), type, (rank,), needs, run)


def blocked(engine: Engine, threads: int) -> threading.Event:
    """Keep all threads busy until the event is set."""
    go = threading.Event()
    running = threading.Barrier(threads + 1)

    def hold() -> None:
        running.wait(SECONDS)
        go.wait(SECONDS)

    engine.submit([job("hold", hold, rank=-1) for _ in range(threads)])
    running.wait(SECONDS)
    return go


def test_jobs_run_after_their_needs(engine: Engine):
    seen: list[int] = []
    chain: list[Job] = []
    for i in range(50):
        chain.append(job("n", lambda i=i: seen.append(i), *chain[-1:], type=1 + i % 2))
    engine.submit(chain)
    within(SECONDS, lambda: engine.wait(chain[-1:]))
    assert seen == list(range(50))
    assert all(each.run is None for each in chain)


def test_waiting_for_nothing_or_for_what_is_done_returns_at_once(engine: Engine):
    engine.wait([])
    done = job("n", None)
    engine.submit([done])
    engine.wait([done])
    engine.wait([done, done])


def test_waiting_forces(engine: Engine):
    """A type-2 job that somebody waits for goes before type-1 jobs that nobody waits for."""
    order: list[str] = []
    go = blocked(engine, 2)
    update = job("update", lambda: order.append("update"), type=2, rank=9)
    spectrum = job("spectrum", lambda: order.append("spectrum"), update, type=2, rank=9)
    idle = job("idle", lambda: order.append("idle"), type=2)
    others = [job("other", lambda: time.sleep(0.002), rank=1) for _ in range(40)]
    last = job("last", lambda: order.append("last"), rank=2)
    engine.submit([update, spectrum, idle, *others, last])
    waiting = threading.Thread(target=engine.wait, args=([spectrum],))
    waiting.start()
    while not spectrum.forced:
        time.sleep(0.001)
    assert update.forced
    assert not idle.forced
    go.set()
    waiting.join(SECONDS)
    within(SECONDS, lambda: engine.wait([idle, last]))
    assert order[:2] == ["update", "spectrum"]
    assert {span.name[1]: span.forced for span in engine.timeline}["update"]


def test_type_2_runs_when_nothing_else_is_ready(engine: Engine):
    order: list[str] = []
    go = blocked(engine, 2)
    gap = job("gap", lambda: order.append("gap"), type=2, rank=0)
    first = [job("first", lambda: order.append("first"), rank=5) for _ in range(10)]
    engine.submit([gap, *first])
    go.set()
    while len(order) < 11:
        time.sleep(0.001)
    assert order.index("gap") >= 9  # the other thread may still be in the last type-1 job


def test_an_error_names_kind_and_layer_and_reaches_all_who_wait(engine: Engine):
    def divide() -> None:
        raise ZeroDivisionError("one by zero")

    bad = job("conv7", divide)
    after = job("conv8", lambda: pytest.fail("it ran"), bad)
    fine = job("fine", None)
    engine.submit([bad, after, fine])
    with pytest.raises(
        TaskError, match="forward of conv7, block 3: ZeroDivisionError: one by"
    ) as e:
        within(SECONDS, lambda: engine.wait([after]))
    assert isinstance(e.value.__cause__, ZeroDivisionError)
    engine.wait([fine])
    late = job("late", lambda: pytest.fail("it ran"), after)
    engine.submit([late])
    for failed in (bad, after, late):
        with pytest.raises(TaskError, match="conv7"):
            within(SECONDS, lambda failed=failed: engine.wait([fine, failed]))


def test_an_error_survives_pickling(engine: Engine):
    error = TaskError("forward of conv7")
    assert str(pickle.loads(pickle.dumps(error))) == "forward of conv7"


def test_a_waiter_learns_of_an_error_that_comes_while_it_waits(engine: Engine):
    go = threading.Event()

    def fail_later() -> None:
        go.wait(SECONDS)
        raise ValueError("later")

    bad = job("conv", fail_later)
    engine.submit([bad])
    threading.Timer(0.05, go.set).start()
    with pytest.raises(TaskError, match="later"):
        within(SECONDS, lambda: engine.wait([bad]))


def test_threads_survive_errors(engine: Engine):
    def fail() -> None:
        raise SystemExit("as bad as it gets")

    engine.submit([job("bad", fail) for _ in range(10)])
    good = job("good", None, rank=1)
    engine.submit([good])
    within(SECONDS, lambda: engine.wait([good]))
    assert engine.threads == 2


def test_many_threads_wait_for_many_jobs(engine: Engine):
    jobs = [job("n", lambda: time.sleep(0.0002), type=1 + i % 2, rank=i) for i in range(200)]
    late = [job("m", None, *jobs[i : i + 5], type=2) for i in range(100)]
    errors: list[BaseException] = []

    def wait(first: int) -> None:
        try:
            for each in late[first::7]:
                engine.wait([each, *jobs[first : first + 3]])
        except BaseException as error:
            errors.append(error)

    engine.submit([*jobs, *late])
    threads = [threading.Thread(target=wait, args=(i % 7,), daemon=True) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in threads)
    assert not errors
    assert all(each.state is JobState.DONE for each in late)


def test_jobs_run_at_the_same_time_on_all_threads(engine: Engine):
    together = threading.Barrier(3)
    jobs = [job("n", lambda: together.wait(SECONDS)) for _ in range(3)]
    engine.grow(1)
    assert engine.threads == 3
    engine.submit(jobs)
    within(SECONDS, lambda: engine.wait(jobs))


def test_a_job_that_finishes_wakes_all_threads_that_its_dependents_need(engine: Engine):
    together = threading.Barrier(2)
    first = job("first", lambda: time.sleep(0.02))
    pair = [job("pair", lambda: together.wait(SECONDS), first) for _ in range(2)]
    engine.submit([first, *pair])
    within(SECONDS, lambda: engine.wait(pair))


def test_shrinking_keeps_the_work(engine: Engine):
    engine.grow(3)
    jobs = [job("n", lambda: time.sleep(0.001)) for _ in range(50)]
    engine.submit(jobs)
    engine.shrink(4)
    assert engine.threads == 1
    within(SECONDS, lambda: engine.wait(jobs))
    deadline = time.monotonic() + SECONDS
    while len(engine._threads) > 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(engine._threads) == 1
    engine.grow(1)
    assert engine.threads == 2
    more = [job("n", None) for _ in range(10)]
    engine.submit(more)
    within(SECONDS, lambda: engine.wait(more))


def test_threads_on_the_timeline_are_told_apart_after_shrinking_and_growing():
    engine = Engine(3)
    engine.shrink(2)
    while len(engine._threads) > 1:
        time.sleep(0.001)
    engine.grow(2)
    together = threading.Barrier(3)
    jobs = [job("n", lambda: together.wait(SECONDS)) for _ in range(3)]
    engine.submit(jobs)
    within(SECONDS, lambda: engine.wait(jobs))
    within(SECONDS, engine.close)
    assert len({span.thread for span in engine.timeline}) == 3


def test_an_engine_without_threads_says_so_instead_of_waiting_for_ever():
    """A granule may still run while its worker, the last of the process, is being closed."""
    engine = Engine(1)
    engine.shrink(1)
    while engine._threads:
        time.sleep(0.001)
    lost = job("n", None)
    with pytest.raises(EngineClosedError, match="no threads"):
        engine.submit([lost])
    engine.grow(1)
    found = job("n", None)
    engine.submit([found])
    within(SECONDS, lambda: engine.wait([found]))
    within(SECONDS, engine.close)


def test_the_last_thread_leaves_when_the_work_is_done():
    engine = Engine(1)
    jobs = [job("n", lambda: time.sleep(0.001)) for _ in range(20)]
    engine.submit(jobs)
    engine.shrink(1)
    while engine._threads:
        time.sleep(0.001)
    assert all(each.state is JobState.DONE for each in jobs)


def test_closing_finishes_the_work():
    engine = Engine(2)
    seen: list[int] = []
    chain: list[Job] = []
    for i in range(30):
        chain.append(job("n", lambda i=i: seen.append(i), *chain[-1:], type=1 + i % 2))
    engine.submit(chain)
    within(SECONDS, engine.close)
    assert seen == list(range(30))
    assert engine.threads == 0
    with pytest.raises(EngineClosedError, match="closed"):
        engine.submit([job("n", None)])
    within(SECONDS, engine.close)


def test_timeline_has_every_job_and_forgets_the_oldest():
    engine = Engine(2, history=8)
    jobs = [job(f"n{i}", lambda: time.sleep(0.001), rank=i) for i in range(20)]
    engine.submit(jobs)
    engine.wait(jobs)
    within(SECONDS, engine.close)
    assert len(engine.timeline) == 8
    for span in engine.timeline:
        assert span.end > span.start
        assert span.name[0] == "forward"
        assert span.thread in (0, 1)
        assert span.type == 1
    by_thread = [[s for s in engine.timeline if s.thread == t] for t in (0, 1)]
    for spans in by_thread:
        assert all(a.end <= b.start for a, b in itertools.pairwise(spans))


def test_what_has_run_is_freed(engine: Engine):
    """A job holds maps and spectra through `run`: memory is only bounded if they go."""

    class Map:
        pass

    held = Map()
    gone = weakref.ref(held)
    done = job("n", lambda held=held: None)
    failed = job("n", lambda held=held: 1 / 0)
    after = job("n", lambda held=held: None, failed)
    engine.submit([done, failed, after])
    engine.wait([done])
    with pytest.raises(TaskError):
        engine.wait([after])
    del held
    del failed, after  # the traceback of an error leads to the map
    deadline = time.monotonic() + SECONDS
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
    assert gone() is None


def test_one_engine_per_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "_engine", None)
    first = engine_module.process_engine(1)
    try:
        assert engine_module.process_engine() is first
        assert engine_module.process_engine(2) is first
        assert first.threads == 3
        pending = job("n", lambda: time.sleep(0.01), type=2)
        first.submit([pending])
        within(SECONDS, lambda: engine_module.wait([pending]))
        assert pending.state is JobState.DONE
    finally:
        within(SECONDS, first.close)


def test_what_is_done_needs_no_engine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "_engine", None)
    done = job("n", None)
    done.state = JobState.DONE
    engine_module.wait([done])
    assert engine_module._engine is None


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(1, 8))
def test_any_graph_runs_on_any_number_of_threads(data: st.DataObject, threads: int):
    count = data.draw(st.integers(1, 60))
    failing = data.draw(st.sets(st.integers(0, count - 1), max_size=2))
    finished: list[int] = []
    jobs: list[Job] = []
    needs: list[list[int]] = []
    doomed: set[int] = set()
    for i in range(count):
        needs.append(data.draw(st.lists(st.integers(0, i - 1), max_size=3)) if i else [])

        def run(i: int = i) -> None:
            assert set(needs[i]) <= set(finished)
            if i in failing:
                raise ArithmeticError(str(i))
            finished.append(i)

        kind, rank = data.draw(st.sampled_from([1, 2])), data.draw(st.integers(0, 5))
        jobs.append(job(str(i), run, *(jobs[n] for n in needs[i]), type=kind, rank=rank))
        if i in failing or doomed.intersection(needs[i]):
            doomed.add(i)
    engine = Engine(threads)
    cut = data.draw(st.integers(0, count))
    engine.submit(jobs[:cut])
    engine.submit(jobs[cut:])

    def wait() -> None:
        for i, each in enumerate(jobs):
            if i in doomed:
                with pytest.raises(TaskError):
                    engine.wait([each])
            else:
                engine.wait([each])

    within(SECONDS, wait)
    within(SECONDS, engine.close)
    assert sorted(finished) == [i for i in range(count) if i not in doomed]
