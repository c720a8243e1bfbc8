"""The kinds of runs that a benchmark times: through Dask, and on an engine of this process."""

import time
from collections.abc import Callable
from contextlib import ExitStack

from distributed import Client

from znn_dask.bench.machine import rss
from znn_dask.cluster import work
from znn_dask.cluster.local import local_cluster
from znn_dask.cluster.session import Session
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.plan import Plan
from znn_dask.taskgraph.state import Parameters, State, UpdateRule
from znn_dask.training.initial import initial_parameters
from znn_dask.training.loop import Cadence, Loop

_GRANULES = 4  # that a measured run of training has at least
_UNDER_WAY = 2  # patches at once in the forward runs: one fills the gaps of the other
_RULE = UpdateRule(1e-6, 0.9, 0.0, 1e-6)  # noise teaches nothing: stay where numbers are ordinary

Run = Callable[[int], float]


def make_runs(
    stack: ExitStack, made: Plan, spec: TrainingSpec, threads: int, forward_only: bool
) -> tuple[dict[str, Run], int]:
    """Name -> a function that does so many updates and returns the seconds of one; idle bytes.

    What holds memory is made at its first use, so that the first run's peak is its own.
    """
    parameters = initial_parameters(spec.network, 0, made.arithmetic.dtype)
    runs: dict[str, Run] = {}
    if not forward_only:
        client = stack.enter_context(local_cluster(threads, dashboard=False))
        idle = rss()
        trained = _Trained(client, made, spec, parameters)
        stack.callback(trained.close)
        runs["update"] = trained.run
    else:
        idle = rss()
    bare = _Bare(spec, parameters, threads)
    stack.callback(bare.close)
    if not forward_only:
        runs["kernels_only_update"] = bare.updates
    runs["forward"] = bare.forwards
    return runs, idle


class _Trained:
    """Updates through Dask, one session for all runs."""

    def __init__(
        self, client: Client, made: Plan, spec: TrainingSpec, parameters: Parameters
    ) -> None:
        self._steps = made.steps_per_granule
        self._session = Session(client, spec, whole_steps=self._steps > 0)
        self._parameters = parameters
        self._step = -1

    def run(self, count: int) -> float:
        if self._step < 0:
            self._session.start(self._parameters, None, 0)
            self._step = 0
        loop = Loop(self._session, Cadence(0, 0, 0), lambda step: _RULE, self._steps)
        steps = max(1, self._steps)
        granules = max(_GRANULES if steps > 1 else 2, -(-count // steps))
        # The first granule starts the line and the last waits for a snapshot: neither counts.
        last = self._step + (granules + 2) * steps
        stamps = [(o.step, time.perf_counter()) for o in loop.run(self._step, last)]
        self._step = last
        (first_step, begin), (last_step, end) = stamps[0], stamps[-2]
        return (end - begin) / (last_step - first_step)

    def close(self) -> None:
        self._session.close()


class _Bare:
    """The same jobs on an engine of this process, without Dask."""

    def __init__(self, spec: TrainingSpec, parameters: Parameters, threads: int) -> None:
        self._spec, self._threads = spec, threads
        self._parameters = parameters
        self._context: Context | None = None

    def _start(self) -> Context:
        if self._context is None:
            self._context = Context(self._spec, Engine(self._threads))
            self._state = work.new_state(self._context, self._parameters, None, 0)
        return self._context

    def updates(self, count: int) -> float:
        context = self._start()
        begin = time.perf_counter()
        self._state = work.train(context, self._state, self._state.step, (_RULE,) * count)
        context.engine.wait(self._state.jobs.values())
        return (time.perf_counter() - begin) / count

    def forwards(self, count: int) -> float:
        context, state = self._start(), self._state
        self._forwards(context, state, 1)  # kernel spectra, if this is the first time
        begin = time.perf_counter()
        self._forwards(context, state, count)
        return (time.perf_counter() - begin) / count

    def _forwards(self, context: Context, state: State, count: int) -> None:
        tapes = []
        for index in range(count):
            tape = context.program.load(
                lambda: self._spec.source.patch(0), (state.step, index), training=False
            )
            context.program.forward(state, tape)
            tapes.append(tape)
            if len(tapes) == _UNDER_WAY:
                context.engine.wait(tapes.pop(0).jobs.values())
        for tape in tapes:
            context.engine.wait(tape.jobs.values())

    def close(self) -> None:
        if self._context is not None:
            self._context.engine.close()
