"""A training job on the workers of a cluster: its contexts and states are persisted futures.

One epoch is one unbroken run. When a worker is lost the next epoch starts from a checkpoint, under
new keys; lineage is never the way back, and `cut` ends it from time to time.
"""

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError
from distributed.scheduler import NoValidWorkerError

from znn_dask.cluster.checks import ClusterError, present_workers
from znn_dask.cluster.plugin import install
from znn_dask.cluster.work import FUNCTIONS, ParkedStateLostError, TrainingSpec
from znn_dask.taskgraph import dask_graph
from znn_dask.taskgraph.engine import EngineClosedError, TaskError
from znn_dask.taskgraph.granules import Granule, Key, Names, inherit, training_segment
from znn_dask.taskgraph.losses import LossRecord
from znn_dask.taskgraph.state import Parameters, UpdateRule

_LOOK_SECONDS = 2.0
_WAIT_SECONDS = 120


class WorkerLostError(RuntimeError):
    """A worker that granules are pinned to has left the cluster."""


LOST = (
    WorkerLostError,
    ParkedStateLostError,
    EngineClosedError,
    KilledWorker,
    FutureCancelledError,
    CommClosedError,
    NoValidWorkerError,
)
"""Errors that mean that a worker or its results are gone, not that the work was wrong."""


class Session:
    """Runs the granules of one training job.

    Parameters
    ----------
    client
        Where.
    spec
        What.
    whole_steps
        Group whole updates into one granule (for steps of a few milliseconds).
    """

    def __init__(self, client: Client, spec: TrainingSpec, *, whole_steps: bool) -> None:
        self.client = client
        self.spec = spec
        self.whole_steps = whole_steps
        self._names = Names(f"job-{uuid.uuid4().hex[:8]}", -1)
        self._workers: list[str] = []
        self._contexts: dict[Key, Future] = {}
        self._states: dict[Key, Future] = {}
        self._calls = 0
        install(client)

    @property
    def job(self) -> str:
        """Name of the job in Dask's keys."""
        return self._names.job

    def start(self, parameters: Parameters, momenta: Parameters | None, step: int) -> None:
        """Begin a new epoch from these arrays (ZNN's layout).

        Raises
        ------
        ClusterError
            If the cluster stays without workers.
        """
        self.close()
        try:
            self.client.wait_for_workers(1, timeout=_WAIT_SECONDS)
        except TimeoutError as error:
            raise ClusterError(
                f"no worker joined the cluster within {_WAIT_SECONDS} seconds; start some"
            ) from error
        addresses = sorted(present_workers(self.client))
        self._workers = addresses[: self.spec.batch]
        names = self._names = Names(self.job, self._names.epoch + 1)
        slots = range(len(self._workers))
        contexts = [
            Granule(names.context(slot), "start", (), (self.spec,), slot, step) for slot in slots
        ]
        arguments = (parameters, momenta, step)
        states = [
            Granule(
                names.key("state", step, s), "new_state", (names.context(s),), arguments, s, step
            )
            for s in slots
        ]
        kept = [granule.key for granule in (*contexts, *states)]
        futures = self._send([*contexts, *states], kept)
        self._contexts = {granule.key: futures[granule.key] for granule in contexts}
        self._states = {granule.key: futures[granule.key] for granule in states}

    def train(self, first: int, rules: Sequence[UpdateRule]) -> list[Future]:
        """Submit the updates after step `first` without waiting: futures of their loss records."""
        segment = training_segment(
            self._names,
            tuple(self._states),
            first,
            rules,
            batch=self.spec.batch,
            whole_steps=self.whole_steps,
        )
        futures = self._send(segment.granules, [*segment.states, *segment.reports])
        self._states = {key: futures[key] for key in segment.states}
        return [futures[key] for key in segment.reports]

    def snapshot(self, step: int) -> Future:
        """(parameters, momenta) in ZNN's layout after all that was submitted."""
        return self._on_state("snapshot", step)

    def validate(self, step: int, patches: int) -> Future:
        """`LossRecord` of the first patches of the validation data."""
        return self._on_state("validate", step, patches)

    def passes(self) -> Future:
        """(outputs, gradients) of patch 0 in ZNN's layout."""
        names, context, (state,) = self._names, self._names.context(0), self._states
        load, forward, backward = (names.key(w) for w in ("load:patch", "forward", "backward"))
        result = names.key("gather")
        granules = [
            Granule(load, "load", (context,), (0, 0)),
            Granule(forward, "forward", (context, state, load)),
            Granule(backward, "backward", (context, state, forward)),
            Granule(result, "gather", (context, forward, backward)),
        ]
        return self._send(inherit(granules), [result])[result]

    def cut(self, step: int) -> None:
        """Make Dask forget how the present states came about; waits until they are there."""
        slots = range(len(self._workers))
        for parked in [self._on_state("park", step, slot=slot) for slot in slots]:
            self.result(parked)
        self._calls += 1
        granules = [
            Granule(
                self._names.key("state", step, slot, self._calls),
                "unpark",
                (self._names.context(slot),),
                (),
                slot,
                step,
            )
            for slot in slots
        ]
        self._states = self._send(granules, [granule.key for granule in granules])

    def result(self, future: Future) -> Any:
        """What a future of this session brings.

        Raises
        ------
        TaskError
            If a typed task failed.
        WorkerLostError
            If a worker of the session is gone: Dask would wait for its address to come back.
        """
        while True:
            try:
                return future.result(timeout=_LOOK_SECONDS)
            except TimeoutError:
                if future.status == "error" and isinstance(future.exception(), TimeoutError):
                    raise  # its own; any other may have come just now
            except TaskError as error:
                # In one process the scheduler keeps this very object for as long as somebody holds
                # the future; with a traceback it would hold the future, and all the caller has.
                error.__traceback__ = None
                raise TaskError(*error.args) from error.__cause__
            try:
                present = present_workers(self.client)
            except OSError as error:
                raise WorkerLostError("the scheduler does not answer") from error
            if gone := [address for address in self._workers if address not in present]:
                raise WorkerLostError(f"worker {gone[0]} has left the cluster")

    def close(self) -> None:
        """Drop everything this epoch holds on the cluster."""
        self._contexts, self._states = {}, {}  # what nobody holds, the scheduler drops

    def _on_state(self, work: str, step: int, *arguments: Any, slot: int = 0) -> Future:
        self._calls += 1
        key = self._names.key(work, step, self._calls)
        needs = (self._names.context(slot), list(self._states)[slot])
        granule = Granule(key, work, needs, arguments, slot, step)
        return self._send(inherit([granule]), [key])[key]

    def _send(self, granules: Sequence[Granule], keep: Iterable[Key]) -> dict[Key, Future]:
        return dask_graph.submit(self.client, granules, FUNCTIONS, self._workers, keep)


def losses(reports: Iterable[list[LossRecord]]) -> list[LossRecord]:
    """The records of several reports in order of their steps."""
    return sorted((r for report in reports for r in report), key=lambda record: record.step)
