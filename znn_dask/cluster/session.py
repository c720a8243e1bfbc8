"""A training job on the workers of a cluster: its contexts and states are persisted futures.

One epoch is one unbroken run on one placement. When a worker is lost the next epoch starts from a
snapshot, under new keys; so it does, with nothing lost, where workers came or left. Lineage is
never the way back, and `cut` ends it from time to time.
"""

import asyncio
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from typing import Any

from distributed import Client, Future, KilledWorker
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError
from distributed.scheduler import NoValidWorkerError

from znn_dask.cluster.crew import Crew
from znn_dask.cluster.fingerprint import Fingerprint
from znn_dask.cluster.members import Member, present_workers
from znn_dask.cluster.placement import Estimate, Placement, place
from znn_dask.cluster.work import FUNCTIONS, ParkedStateLostError, TrainingSpec
from znn_dask.taskgraph import dask_graph
from znn_dask.taskgraph.engine import EngineClosedError, TaskError
from znn_dask.taskgraph.granules import (
    Granule,
    Key,
    Names,
    inherit,
    relayed_from,
    training_segment,
)
from znn_dask.taskgraph.losses import LossRecord
from znn_dask.taskgraph.state import Parameters, UpdateRule

_LOOK_SECONDS = 2.0


class WorkerLostError(RuntimeError):
    """A worker that granules are pinned to has left the cluster."""


LOST = (
    WorkerLostError,
    ParkedStateLostError,
    EngineClosedError,
    KilledWorker,
    FutureCancelledError,
    CancelledError,
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
        Group what a slot does of an update into one granule, and whole updates where there is one
        slot (for steps of a few milliseconds).
    estimate
        Seconds of a step on given slots; all workers that a batch can use are used without it.
    libraries, any_worker
        Which workers may be used (`Crew`).
    home
        Address of the worker to use first among equal ones.
    """

    def __init__(
        self,
        client: Client,
        spec: TrainingSpec,
        *,
        whole_steps: bool,
        estimate: Estimate | None = None,
        libraries: Fingerprint | None = None,
        any_worker: bool = False,
        home: str | None = None,
    ) -> None:
        self.client = client
        self.whole_steps = whole_steps
        self.crew = Crew(client, libraries, any_worker=any_worker)
        self._estimate, self._home = estimate, home
        self._names = Names(f"job-{uuid.uuid4().hex[:8]}", -1)
        self.spec = replace(spec, name=self.job)
        self._present: list[Member] = []
        self._best = self._placement = Placement((), ())  # for those present; of this epoch
        self._contexts: dict[Key, Future] = {}
        self._states: dict[Key, Future] = {}
        self._calls = 0

    @property
    def job(self) -> str:
        """Name of the job in Dask's keys."""
        return self._names.job

    @property
    def workers(self) -> tuple[str, ...]:
        """Addresses of the workers of this epoch, by slot."""
        return self._placement.workers

    def start(self, parameters: Parameters, momenta: Parameters | None, step: int) -> None:
        """Begin a new epoch from these arrays (ZNN's layout) on the workers that are there.

        Raises
        ------
        ClusterError
            If the cluster stays without workers, without ones of the right libraries, or does not
            answer.
        """
        self.close()
        self._look(self.crew.wait())
        self._placement = self._best
        names = self._names = Names(self.job, self._names.epoch + 1)
        slots = range(len(self.workers))
        contexts = [
            Granule(names.context(slot), "start", (), (self.spec,), slot, step) for slot in slots
        ]
        states = [
            Granule(
                *(names.key("state", step, 0), "new_state", (names.context(0),)),
                (parameters, momenta, step),
                step=step,
            )
        ]
        for slot in slots[1:]:  # from worker to worker, not all from the client
            needs = (names.context(slot), states[relayed_from(slot)].key)
            key = names.key("state", step, slot)
            states.append(Granule(key, "receive", needs, (), slot, step))
        kept = [granule.key for granule in (*contexts, *states)]
        futures = self._send(inherit([*contexts, *states]), kept)
        self._contexts = {granule.key: futures[granule.key] for granule in contexts}
        self._states = {granule.key: futures[granule.key] for granule in states}

    def outdated(self) -> bool:
        """Whether workers came or left such that a new epoch would use others.

        Raises
        ------
        WorkerLostError
            If the scheduler does not answer.
        """
        try:
            present = self.crew.present()
        except OSError as error:
            raise WorkerLostError(str(error)) from error
        if present:
            self._look(present)
        return self._best != self._placement

    def _look(self, present: list[Member]) -> None:
        if present != self._present:
            self._present = present
            self._best = place(present, self.spec.batch, self._estimate, self._home)

    def train(self, first: int, rules: Sequence[UpdateRule]) -> list[Future]:
        """Submit the updates after step `first` without waiting: futures of their loss records."""
        segment = training_segment(
            self._names,
            tuple(self._states),
            first,
            rules,
            places=self._placement.places,
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
        slots = range(len(self.workers))
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
        # One wait for all looks: `future.result(timeout)` would cancel its own at every look, and
        # one that is cancelled as it ends fails inside Dask, or is heard of when Python exits.
        gathered = self.client.gather(future, asynchronous=True)
        waiting = asyncio.run_coroutine_threadsafe(gathered, self.client.loop.asyncio_loop)
        try:
            while True:
                try:
                    return waiting.result(_LOOK_SECONDS)
                except TimeoutError:
                    if waiting.done() and isinstance(waiting.exception(), TimeoutError):
                        raise  # its own; any other may have come just now
                except TaskError as error:
                    # In one process the scheduler keeps this very object for as long as somebody
                    # holds the future; with a traceback it would hold the future, and all the
                    # caller has.
                    error.__traceback__ = None
                    raise TaskError(*error.args) from error.__cause__
                try:
                    present = present_workers(self.client)
                except OSError as error:
                    raise WorkerLostError(str(error)) from error
                if gone := [address for address in self.workers if address not in present]:
                    raise WorkerLostError(f"worker {gone[0]} has left the cluster")
        finally:
            waiting.cancel()

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
        return dask_graph.submit(self.client, granules, FUNCTIONS, self.workers, keep)


def losses(reports: Iterable[list[LossRecord]]) -> list[LossRecord]:
    """The records of several reports in order of their steps."""
    return sorted((r for report in reports for r in report), key=lambda record: record.step)
