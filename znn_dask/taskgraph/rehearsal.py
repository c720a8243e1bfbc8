"""A rehearsal: some steps of the real typed tasks on the real engine, to learn what each takes.

The engine has as many threads as the plan (at most the cores of this machine), so what the threads
cost each other, in memory bandwidth and in Python's lock, is in the figures. Patch and parameters
are noise.
"""

import statistics
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from znn_dask.kernels.losses import loss
from znn_dask.network import Network
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.execution import Execution
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.layers import Layers
from znn_dask.taskgraph.passes import Tape
from znn_dask.taskgraph.program import Program
from znn_dask.taskgraph.rule import Job
from znn_dask.taskgraph.signature import signature
from znn_dask.taskgraph.state import Parameters, State, UpdateRule
from znn_dask.taskgraph.tasks import Task
from znn_dask.taskgraph.timeline import Span
from znn_dask.taskgraph.timings import Timing, Timings

_ENOUGH_STEPS = 2
_ENOUGH_SECONDS = 1.5  # short steps are repeated for so long: a machine's speed drifts
_OUTLIERS = 0.1  # share of the repeats that is left out at either end
_RULE = UpdateRule(1e-6, 0.9, 0.0, 1e-6)  # noise teaches nothing: stay where numbers are ordinary


@threadpool_limits.wrap(limits=1)
def rehearse(
    layers: Layers,
    counted: Sequence[Task],
    threads: int,
    execution: Execution,
    *,
    training: bool,
    budget: float,
) -> Timings:
    """Seconds of each task, and of the engine between two, while `threads` threads work.

    `counted` are the tasks that `execution` makes of a step, with the seconds counted for them.
    Takes at most about `budget` seconds, or two steps if those take longer.
    """
    engine = Engine(threads, history=100 * len(counted))
    stage = _Stage(layers, counted, engine, execution, training)
    try:
        begun = time.perf_counter()
        stage.run(1)  # plans FFTs, fills the pool of memory
        engine.timeline.clear()
        first = time.perf_counter()
        stage.run(1)
        now = time.perf_counter()
        step = now - first
        wanted = max(_ENOUGH_STEPS * step, _ENOUGH_SECONDS)
        stage.run(int(min(wanted, begun + budget - now) / step))
    finally:
        engine.close()
    measured: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for span in engine.timeline:
        measured[span.name].append(span.end - span.start)
    alike: dict[str, list[Timing]] = defaultdict(list)
    for task in counted:
        timing = Timing(_typical(measured[task.id]), task.seconds)
        name = signature(layers, task.id, training=training, prompt=execution.prompt)
        alike[name].append(timing)
    known = {name: _mean(timings) for name, timings in alike.items()}
    return Timings({threads: known}, {"job_seconds": _between(engine.timeline)})


def _typical(seconds: Sequence[float]) -> float:
    """Mean without outliers: a step takes the sum of its tasks' means, not of their medians."""
    out = int(_OUTLIERS * len(seconds))
    return statistics.fmean(sorted(seconds)[out : len(seconds) - out])


def _mean(timings: Sequence[Timing]) -> Timing:
    seconds, counted = (statistics.fmean(values) for values in zip(*timings, strict=True))
    return Timing(seconds, counted)


def _between(timeline: Iterable[Span]) -> float:
    """Seconds from the end of a job to the start of the next one on its thread."""
    ends: dict[int, float] = {}
    gaps = []
    for span in timeline:  # those of one thread are in order
        if span.thread in ends:
            gaps.append(span.start - ends[span.thread])
        ends[span.thread] = span.end
    return statistics.median(gaps)  # a mean would count idle threads


class _Stage:
    """A state in training, step after step, as in a granule of whole steps."""

    def __init__(
        self,
        layers: Layers,
        tasks: Sequence[Task],
        engine: Engine,
        execution: Execution,
        training: bool,
    ) -> None:
        self._engine, self._training, self._ahead = engine, training, execution.steps_ahead
        self._program = Program(layers, tasks, engine, execution)
        network, arithmetic = layers.network, layers.arithmetic
        self._patch = noise_source(network, arithmetic.output_size).always
        self._state = State.from_parameters(network, _parameters(network), dtype=arithmetic.dtype)
        self._loss = loss("square")
        self._step = 0

    def run(self, steps: int) -> None:
        """So many steps; returns when all their jobs are done."""
        under_way: deque[list[Job]] = deque()
        for _ in range(steps):
            under_way.append(self._begin_step())
            if len(under_way) > self._ahead:
                self._engine.wait(under_way.popleft())
        for jobs in under_way:
            self._engine.wait(jobs)
        self._engine.wait(self._state.jobs.values())

    def _begin_step(self) -> list[Job]:
        program, state = self._program, self._state
        at = (self._step, 0)
        tape = program.load(lambda: self._patch, at, at, training=self._training)
        program.forward(state, tape)
        if self._training:
            program.loss(tape, self._apply_loss)
            self._state = program.update(state, program.backward(state, tape), _RULE)
        self._step += 1
        return list(tape.jobs.values())  # not the tape: what it held is free when it is done

    def _apply_loss(self, tape: Tape) -> None:
        for name, target in self._patch.targets.items():
            tape.output_gradients[name] = self._loss(tape.maps[name], target).gradient


def _parameters(network: Network) -> Parameters:
    """Kernels that keep the scale of a map (ZNN's layout), biases 0."""
    rng = np.random.default_rng(0)
    parameters: Parameters = {}
    for name, shape in network.parameter_shapes().items():
        values = rng.standard_normal(shape, np.float32)
        parameters[name] = values * (values[0].size ** -0.5 if values.ndim > 1 else 0)
    return parameters
