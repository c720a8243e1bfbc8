"""A plan at work in one process: it turns typed tasks into jobs of the engine.

    tape = program.load(source, index)        the patch is on its way
    program.forward(state, tape)              type-1 jobs, then the loss
    gradients = program.backward(state, tape) type-1 jobs; type-2 for the kernels
    state = program.update(state, gradients)  type-2 jobs; the new state is usable at once

Nothing here waits: every call queues jobs and returns objects whose arrays those jobs fill.
"""

import functools
import math
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from znn_dask.kernels import memory
from znn_dask.kernels.initialise import tie
from znn_dask.kernels.update import sgd_step, sgd_step_biases
from znn_dask.taskgraph import passes
from znn_dask.taskgraph.arrays import Uses, kernel_readers, tape_arrays
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.execution import DEFAULT, Execution
from znn_dask.taskgraph.gradients import Gradients
from znn_dask.taskgraph.layers import Layers
from znn_dask.taskgraph.passes import Patch, Tape
from znn_dask.taskgraph.rule import Job, Priority
from znn_dask.taskgraph.schedule import simulate
from znn_dask.taskgraph.state import State, UpdateRule
from znn_dask.taskgraph.tasks import LOAD, LOSS, Task, TaskId
from znn_dask.taskgraph.timeline import Tally


class NonFiniteError(ArithmeticError):
    """The loss or a gradient is not a finite number."""


class _Template(NamedTuple):
    """A job of every step, as far as it is always the same."""

    id: TaskId
    type: int
    rank: int
    after: tuple[TaskId, ...]


class Program:
    """The passes of one network under one arithmetic, as jobs of one engine.

    Parameters
    ----------
    layers
        The network compiled for its arithmetic; it alone decides the results.
    tasks
        Its typed tasks (`expand`).
    engine
        Where the jobs run; the tasks are ranked for its number of threads.
    execution
        What the tasks were made for.
    tally
        Counts the seconds of the jobs.
    """

    def __init__(
        self,
        layers: Layers,
        tasks: Sequence[Task],
        engine: Engine,
        execution: Execution = DEFAULT,
        tally: Tally | None = None,
    ) -> None:
        self.layers = layers
        self.engine = engine
        self._execution = execution
        self._tally = tally
        self._uses = {
            training: Uses(tape_arrays(layers, execution, training=training))
            for training in (True, False)
        }
        self._kernels_of = {training: self._readings(training) for training in (True, False)}
        self._rank = simulate(tasks, engine.threads).ranks
        self._order = tuple(tasks)
        self._of_kinds: dict[tuple[str, ...], list[_Template]] = {}
        self._preparing = threading.Lock()
        shapes = layers.network.parameter_shapes().values()
        item = np.dtype(layers.arithmetic.dtype).itemsize
        self._parameter_bytes = item * sum(math.prod(shape) for shape in shapes)

    def load(
        self,
        load: Callable[[], Patch],
        priority: Priority,
        key: passes.Key | None = None,
        *,
        training: bool = True,
    ) -> Tape:
        """A tape whose input maps `load` is fetching.

        `priority` orders this pass among others (step, patch); `key` seeds dropout, None makes it
        the identity; without `training` nothing is kept for a backward pass.
        """
        recomputed = self._execution.recomputed
        tape = Tape(priority, key, training, recomputed, uses=self._uses[training])
        dtype = self.layers.arithmetic.dtype

        def run(task: TaskId) -> None:
            tape.patch = load()
            for name, values in tape.patch.inputs.items():
                tape.maps[name] = memory.aligned(values.astype(dtype, copy=False))
            tape.done(task)

        self._queue(["load"], tape.jobs, priority, run)
        return tape

    def forward(self, state: State, tape: Tape, after: Iterable[Job] = ()) -> None:
        """Queue the forward pass of a tape; it begins when `after` are done too."""
        if after:
            gate = Job(LOAD, 2, (*tape.priority, 0), (tape.jobs[LOAD], *after))
            self.engine.submit([gate])
            tape.jobs[LOAD] = gate
        readers = self._kernels_of[tape.training]
        self._prepare(state, tape.priority, Counter(e for edges in readers.values() for e in edges))

        def run(task: TaskId) -> None:
            passes.forward_block(self.layers, state, tape, task.layer, task.block)
            state.read(readers.get(task, ()))
            tape.done(task)

        self._queue(["forward"], tape.jobs, tape.priority, run, state.jobs)

    def loss(self, tape: Tape, gradient: Callable[[Tape], None]) -> None:
        """Queue the task that sets `tape.output_gradients` when the outputs are there."""

        def run(task: TaskId) -> None:
            gradient(tape)
            tape.done(task)

        self._queue(["loss"], tape.jobs, tape.priority, run)
        tape.losses.job = tape.jobs[LOSS]

    def backward(self, state: State, tape: Tape) -> Gradients:
        """Queue the backward pass; the gradients of the kernels fill the gaps after it."""
        layers = self.layers
        gradients = Gradients({}, {}, self._parameter_bytes, losses=(tape.losses,))
        readers = self._kernels_of[True]

        def backward(task: TaskId) -> None:
            prompt = self._execution.prompt
            passes.backward_block(layers, state, tape, task.layer, task.block, prompt=prompt)
            state.read(readers.get(task, ()))

        def onward(task: TaskId) -> None:
            passes.input_gradient(layers, state, tape, task.layer, task.block)
            state.read(readers.get(task, ()))

        def spectrum(task: TaskId) -> None:
            passes.input_spectrum(layers, tape, task.layer, task.block)

        def gradient(task: TaskId) -> None:
            edge, channels = task.layer, layers.channel_blocks[task.layer][task.block]
            part = passes.kernel_gradient(layers, tape, edge, channels)
            _check_finite(part, f"gradient of {edge}.filters")
            self._put(tape.lock, gradients.kernels, edge, channels, part)

        def bias(task: TaskId) -> None:
            total = passes.sum_bias_gradient(layers, tape, task.layer)
            _check_finite(total, f"gradient of {task.layer}.biases")
            gradients.biases[task.layer] = total

        work = {
            "backward": backward,
            "input_gradient": onward,
            "input_spectrum": spectrum,
            "kernel_gradient": gradient,
            "bias_gradient": bias,
        }

        def run(task: TaskId) -> None:
            work[task.kind](task)
            tape.done(task)

        self._queue(work, gradients.jobs, tape.priority, run, tape.jobs)
        for task in self._templates("backward", "input_gradient"):
            tape.jobs[task.id] = gradients.jobs.pop(task.id)
        return gradients

    def add(self, first: Gradients, second: Gradients, priority: Priority) -> Gradients:
        """The sum of two gradients, block by block when they are there."""
        layers = self.layers
        total = Gradients({}, {}, self._parameter_bytes, losses=first.losses + second.losses)
        lock = threading.Lock()

        def kernel(task: TaskId) -> None:
            at = (..., layers.channel_blocks[task.layer][task.block], slice(None))
            edge = task.layer
            out = self._kernel(lock, total.kernels, edge)
            np.add(first.kernels[edge][at], second.kernels[edge][at], out=out[at])

        def bias(task: TaskId) -> None:
            node = task.layer
            total.biases[node] = first.biases[node] + second.biases[node]

        for kind, run in (("kernel_gradient", kernel), ("bias_gradient", bias)):
            new: dict[TaskId, Job] = {}
            for task in self._templates(kind):
                needs = [side.jobs[task.id] for side in (first, second) if task.id in side.jobs]
                rank = (*priority, task.rank)
                work = functools.partial(run, task.id)
                new[task.id] = Job(task.id, 2, rank, needs, work, self._tally)
            self.engine.submit(new.values())
            total.jobs.update(new)
        return total

    def update(self, state: State, gradients: Gradients, rule: UpdateRule) -> State:
        """The state after one update: usable at once, filled in the gaps of what runs next."""
        layers = self.layers
        nbytes = 2 * self._parameter_bytes  # with a velocity each
        new = State(state.step + 1, {}, {}, {}, {}, nbytes, losses=gradients.losses)
        new.expect(dict.fromkeys(filter(layers.transformed, layers.convolutions), 0))
        factors = (rule.eta, rule.momentum, rule.weight_decay, rule.scale)

        def update(task: TaskId) -> None:
            edge = task.layer
            channels = layers.channel_blocks[edge][task.block]
            at = (..., channels, slice(None))
            kernel, velocity = sgd_step(
                state.kernels[edge][at],
                state.velocities[edge][at],
                gradients.kernels[edge][at],
                *factors,
            )
            repeat = layers.network.edge(edge).repeat
            if repeat != (1, 1, 1):
                kernel = tie(kernel, repeat)
            self._put(new.lock, new.kernels, edge, channels, kernel)
            self._put(new.lock, new.velocities, edge, channels, velocity)

        def bias_update(task: TaskId) -> None:
            node = task.layer
            new.biases[node], new.bias_velocities[node] = sgd_step_biases(
                state.biases[node], state.bias_velocities[node], gradients.biases[node], *factors
            )

        work: dict[str, Callable[[TaskId], None]] = {
            "bias_update": bias_update,
            "update": update,
            "kernel_spectrum": functools.partial(self._spectrum, new),
        }
        self._queue(work, new.jobs, (state.step, 0), lambda t: work[t.kind](t), gradients.jobs)
        state.supersede()
        return new

    def _prepare(self, state: State, priority: Priority, readers: Mapping[str, int]) -> None:
        """Announce `readers` of kernel spectra, and queue those that the state has not: of a new
        one, of one that travelled, or of one that was thought to be past."""
        with self._preparing:  # nobody may look for jobs that are about to be queued
            new: dict[TaskId, Job] = {}
            for edge in state.expect(readers):
                for c in range(len(self.layers.channel_blocks[edge])):
                    task, update = TaskId("kernel_spectrum", edge, c), TaskId("update", edge, c)
                    needs = [state.jobs[update]] if update in state.jobs else []
                    run = functools.partial(self._spectrum, state, task)
                    rank = (*priority, self._rank.get(task, 0))
                    new[task] = Job(task, 2, rank, needs, run, self._tally)
            self.engine.submit(new.values())
            state.jobs.update(new)

    def _readings(self, training: bool) -> dict[TaskId, list[str]]:
        """Task -> the edges whose kernels' spectra it reads."""
        readings: dict[TaskId, list[str]] = defaultdict(list)
        for edge in filter(self.layers.transformed, self.layers.convolutions):
            for task in kernel_readers(self.layers, self._execution, edge, training=training):
                readings[task].append(edge)
        return dict(readings)

    def _put(
        self,
        lock: threading.Lock,
        arrays: dict[str, np.ndarray],
        edge: str,
        channels: slice,
        values: np.ndarray,
    ) -> None:
        """Set a block of input channels of the edge's array; `values` become it where they are all
        of it."""
        if len(self.layers.channel_blocks[edge]) == 1:
            arrays[edge] = values
        else:
            self._kernel(lock, arrays, edge)[..., channels, :] = values

    def _kernel(self, lock: threading.Lock, arrays: dict[str, np.ndarray], edge: str) -> np.ndarray:
        """The edge's array among `arrays` of the shape of its kernel."""
        convolution = self.layers.convolutions[edge]
        shape = (*convolution.kernel, *convolution.channels)
        return passes.room(lock, arrays, edge, lambda: memory.empty(shape, convolution.dtype))

    def _templates(self, *kinds: str) -> list[_Template]:
        """Of the tasks of some kinds, each after what it needs.

        Made once: a step of a tiny network takes milliseconds, and has dozens of jobs.
        """
        if kinds not in self._of_kinds:
            self._of_kinds[kinds] = [
                _Template(t.id, t.type, self._rank[t.id], (*t.needs, *t.needs_previous))
                for t in self._order
                if t.id.kind in kinds
            ]
        return self._of_kinds[kinds]

    def _spectrum(self, state: State, task: TaskId) -> None:
        channels = self.layers.channel_blocks[task.layer][task.block]
        passes.kernel_spectrum(self.layers, state, task.layer, channels)

    def _queue(
        self,
        kinds: Iterable[str],
        jobs: dict[TaskId, Job],
        priority: Priority,
        run: Callable[[TaskId], None],
        earlier: Mapping[TaskId, Job] | None = None,
    ) -> None:
        """Submit a job for every task of `kinds`, after those of `jobs` and `earlier` it needs."""
        before = earlier or {}
        new: list[Job] = []
        for identity, type_, rank, after in self._templates(*kinds):
            needs = [n for id_ in after if (n := jobs.get(id_) or before.get(id_))]
            work = functools.partial(run, identity)
            job = jobs[identity] = Job(identity, type_, (*priority, rank), needs, work, self._tally)
            new.append(job)
        self.engine.submit(new)


def _check_finite(values: np.ndarray, what: str) -> None:
    if not np.isfinite(values).all():
        raise NonFiniteError(f"the {what} is not finite; lower eta or check the data")
