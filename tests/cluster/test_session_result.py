"""Waiting for a session's results: what comes late, what fails, and workers that leave."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client
from random_patches import RandomPatches, random_parameters

from znn_dask.cluster import session as session_module
from znn_dask.cluster.local import local_cluster
from znn_dask.cluster.session import LOST, Session, WorkerLostError
from znn_dask.cluster.work import ParkedStateLostError, TrainingSpec, unpark
from znn_dask.network import Network
from znn_dask.taskgraph import choose_arithmetic
from znn_dask.taskgraph.engine import EngineClosedError, TaskError
from znn_dask.taskgraph.state import UpdateRule

NETWORK = Network().input().conv("c", 2, (1, 3, 3), "linear", node="output")
SIZE = (1, 4, 4)


@pytest.fixture
def client() -> Iterator[Client]:
    with local_cluster(1, workers=2, dashboard=False) as client:
        yield client


@pytest.fixture
def session(client: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setattr(session_module, "_LOOK_SECONDS", 0.02)
    source = RandomPatches(NETWORK, SIZE)
    spec = TrainingSpec(NETWORK, choose_arithmetic(NETWORK, SIZE), "given", source)
    session = Session(client, spec, whole_steps=False)
    session.start(random_parameters(NETWORK), None, 0)
    yield session
    session.close()


def late(seconds: float, error: BaseException | None = None) -> int:
    time.sleep(seconds)
    if error is not None:
        raise error
    return 7


def test_a_result_may_take_its_time(client: Client, session: Session):
    futures = [client.submit(late, 0.001 * i, pure=False) for i in range(0, 60, 3)]
    assert [session.result(future) for future in futures] == [7] * 20


@pytest.mark.parametrize(
    "error", [ValueError("v"), TimeoutError("t"), TaskError("conv1"), EngineClosedError("e")]
)
@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_errors_are_what_they_are(
    client: Client, session: Session, error: BaseException, seconds: float
):
    future = client.submit(late, seconds, error, pure=False)
    with pytest.raises(type(error), match=str(error)):
        session.result(future)


def test_a_pinned_worker_that_leaves_is_lost(client: Client, session: Session):
    """Without a look at the workers this would wait for ever: granules go nowhere else."""
    (address,) = session.workers
    session.result(session.snapshot(0))
    client.retire_workers([address])
    session.train(0, [UpdateRule(0.1, 0.0, 0.0, 1.0)])
    after = session.snapshot(1)
    with pytest.raises(WorkerLostError, match=f"worker {address} has left the cluster"):
        session.result(after)
    session.start(random_parameters(NETWORK), None, 0)  # on the worker that is left
    assert session.workers != (address,)
    parameters, _ = session.result(session.snapshot(0))
    assert parameters.keys() == NETWORK.parameter_shapes().keys()


def test_a_cancelled_future_is_lost(client: Client, session: Session):
    future = client.submit(late, 0.3, pure=False)
    future.cancel()
    with pytest.raises(LOST):
        session.result(future)


def test_a_state_that_was_parked_elsewhere_is_lost():
    class Begun:
        parked: Any = None

    with pytest.raises(ParkedStateLostError):
        unpark(Begun())  # type: ignore[arg-type]
    assert issubclass(ParkedStateLostError, LOST)
    assert issubclass(EngineClosedError, LOST)
