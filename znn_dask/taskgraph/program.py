"""A plan at work in one process: it turns typed tasks into jobs of the engine.

    tape = program.load(source, index)        the patch is on its way
    program.forward(state, tape)              type-1 jobs, then the loss
    gradients = program.backward(state, tape) type-1 jobs; type-2 for the kernels
    state = program.update(state, gradients)  type-2 jobs; the new state is usable at once

Nothing here waits: every call queues jobs and returns objects whose arrays those jobs fill.
"""

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from znn_dask.kernels import memory
from znn_dask.kernels.initialise import tie
from znn_dask.kernels.update import sgd_step, sgd_step_biases
from znn_dask.taskgraph import passes
from znn_dask.taskgraph.engine import Engine, wait
from znn_dask.taskgraph.layers import Layers
from znn_dask.taskgraph.losses import PendingLosses
from znn_dask.taskgraph.passes import Patch, Tape
from znn_dask.taskgraph.rule import Job, Priority
from znn_dask.taskgraph.schedule import simulate
from znn_dask.taskgraph.state import State, UpdateRule
from znn_dask.taskgraph.tasks import LOSS, TYPE, Task, TaskId


class NonFiniteError(ArithmeticError):
    """The loss or a gradient is not a finite number."""


@dataclass
class Gradients:
    """dE/d(parameter) in the kernels' layout, with the jobs that still fill them.

    `kernels`: conv edge group -> (kz, ky, kx, in, out); `biases`: node group -> (n,); `losses`: of
    the patches behind them.
    """

    kernels: dict[str, np.ndarray]
    biases: dict[str, np.ndarray]
    jobs: dict[TaskId, Job] = field(default_factory=dict)
    losses: tuple[PendingLosses, ...] = ()

    def __sizeof__(self) -> int:
        return sum(array.nbytes for array in (*self.kernels.values(), *self.biases.values()))

    def __reduce__(self) -> tuple[Any, ...]:
        wait(self.jobs.values())
        records = tuple(PendingLosses(pending.records) for pending in self.losses)
        return _arrive, (self.kernels, self.biases, records)


def _arrive(
    kernels: dict[str, np.ndarray],
    biases: dict[str, np.ndarray],
    losses: tuple[PendingLosses, ...],
) -> Gradients:
    return Gradients(
        {name: memory.aligned_copy(v) for name, v in kernels.items()},
        {name: memory.aligned_copy(v) for name, v in biases.items()},
        losses=losses,
    )


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
    """

    def __init__(self, layers: Layers, tasks: Sequence[Task], engine: Engine) -> None:
        self.layers = layers
        self.engine = engine
        self._rank = simulate(tasks, engine.threads).ranks
        self._tasks = {kind: [t for t in tasks if t.id.kind == kind] for kind in TYPE}
        # Made once: a step of a tiny network takes milliseconds, and has dozens of jobs.
        self._templates = {
            kind: [(t.id, t.type, self._rank[t.id], (*t.needs, *t.needs_previous)) for t in tasks]
            for kind, tasks in self._tasks.items()
        }
        self._preparing = threading.Lock()

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
        tape = Tape(priority, key, training)
        dtype = self.layers.arithmetic.dtype

        def run(_: TaskId) -> None:
            tape.patch = load()
            for name, values in tape.patch.inputs.items():
                tape.maps[name] = memory.aligned(values.astype(dtype, copy=False))

        self._queue(["load"], tape.jobs, priority, run)
        return tape

    def forward(self, state: State, tape: Tape) -> None:
        """Queue the forward pass of a tape."""
        self._prepare(state, tape.priority)

        def run(task: TaskId) -> None:
            passes.forward_block(self.layers, state, tape, task.layer, task.block)

        self._queue(["forward"], tape.jobs, tape.priority, run, state.jobs)

    def loss(self, tape: Tape, gradient: Callable[[Tape], None]) -> None:
        """Queue the task that sets `tape.output_gradients` when the outputs are there."""
        self._queue(["loss"], tape.jobs, tape.priority, lambda _: gradient(tape))
        tape.losses.job = tape.jobs[LOSS]

    def backward(self, state: State, tape: Tape) -> Gradients:
        """Queue the backward pass; the gradients of the kernels fill the gaps after it."""
        layers = self.layers
        gradients = Gradients(
            {edge: np.empty_like(state.kernels[edge]) for edge in layers.convolutions},
            {node: np.empty_like(bias) for node, bias in state.biases.items()},
            losses=(tape.losses,),
        )

        def backward(task: TaskId) -> None:
            passes.backward_block(layers, state, tape, task.layer, task.block)

        def gradient(task: TaskId) -> None:
            edge, channels = task.layer, layers.channel_blocks[task.layer][task.block]
            part = passes.kernel_gradient(layers, tape, edge, channels)
            _check_finite(part, f"gradient of {edge}.filters")
            gradients.kernels[edge][..., channels, :] = part

        def bias(task: TaskId) -> None:
            total = passes.sum_bias_gradient(layers, tape, task.layer)
            _check_finite(total, f"gradient of {task.layer}.biases")
            gradients.biases[task.layer][...] = total

        self._queue(["backward"], tape.jobs, tape.priority, backward)
        self._queue(["kernel_gradient"], gradients.jobs, tape.priority, gradient, tape.jobs)
        self._queue(["bias_gradient"], gradients.jobs, tape.priority, bias, tape.jobs)
        return gradients

    def add(self, first: Gradients, second: Gradients, priority: Priority) -> Gradients:
        """The sum of two gradients, block by block when they are there."""
        layers = self.layers
        total = Gradients(
            {edge: np.empty_like(kernel) for edge, kernel in first.kernels.items()},
            {node: np.empty_like(bias) for node, bias in first.biases.items()},
            losses=first.losses + second.losses,
        )

        def kernel(task: TaskId) -> None:
            at = (..., layers.channel_blocks[task.layer][task.block], slice(None))
            edge = task.layer
            np.add(first.kernels[edge][at], second.kernels[edge][at], out=total.kernels[edge][at])

        def bias(task: TaskId) -> None:
            node = task.layer
            np.add(first.biases[node], second.biases[node], out=total.biases[node])

        for kind, run in (("kernel_gradient", kernel), ("bias_gradient", bias)):
            new: dict[TaskId, Job] = {}
            for task in self._tasks[kind]:
                needs = [side.jobs[task.id] for side in (first, second) if task.id in side.jobs]
                rank = (*priority, self._rank[task.id])
                new[task.id] = Job(task.id, 2, rank, needs, functools.partial(run, task.id))
            self.engine.submit(new.values())
            total.jobs.update(new)
        return total

    def update(self, state: State, gradients: Gradients, rule: UpdateRule) -> State:
        """The state after one update: usable at once, filled in the gaps of what runs next."""
        layers = self.layers
        new = State(
            state.step + 1,
            _like(state.kernels),
            _like(state.velocities),
            _like(state.biases),
            _like(state.bias_velocities),
            _like(state.spectra),
            losses=gradients.losses,
        )
        factors = (rule.eta, rule.momentum, rule.weight_decay, rule.scale)

        def update(task: TaskId) -> None:
            edge = task.layer
            at = (..., layers.channel_blocks[edge][task.block], slice(None))
            kernel, velocity = sgd_step(
                state.kernels[edge][at],
                state.velocities[edge][at],
                gradients.kernels[edge][at],
                *factors,
            )
            repeat = layers.network.edge(edge).repeat
            new.kernels[edge][at] = tie(kernel, repeat) if repeat != (1, 1, 1) else kernel
            new.velocities[edge][at] = velocity

        def bias_update(task: TaskId) -> None:
            node = task.layer
            new.biases[node], new.bias_velocities[node] = sgd_step_biases(
                state.biases[node], state.bias_velocities[node], gradients.biases[node], *factors
            )

        priority = (state.step, 0)
        self._queue(["bias_update"], new.jobs, priority, bias_update, gradients.jobs)
        self._queue(["update"], new.jobs, priority, update, gradients.jobs)
        self._queue(["kernel_spectrum"], new.jobs, priority, functools.partial(self._spectrum, new))
        return new

    def _prepare(self, state: State, priority: Priority) -> None:
        """Queue the kernel spectra of a state that has none: a new one, or one that travelled."""
        with self._preparing:
            if len(state.spectra) == sum(map(self.layers.transformed, self.layers.convolutions)):
                return
            for edge, convolution in self.layers.convolutions.items():
                if self.layers.transformed(edge):
                    state.spectra[edge] = convolution.allocate_kernel_spectrum()
            run = functools.partial(self._spectrum, state)
            self._queue(["kernel_spectrum"], state.jobs, priority, run)

    def _spectrum(self, state: State, task: TaskId) -> None:
        channels = self.layers.channel_blocks[task.layer][task.block]
        passes.kernel_spectrum(self.layers, state, task.layer, channels)

    def _queue(
        self,
        kinds: Sequence[str],
        jobs: dict[TaskId, Job],
        priority: Priority,
        run: Callable[[TaskId], None],
        earlier: Mapping[TaskId, Job] | None = None,
    ) -> None:
        """Submit a job for every task of `kinds`, after those of `jobs` and `earlier` it needs."""
        before = earlier or {}
        new: list[Job] = []
        for kind in kinds:
            for identity, type_, rank, after in self._templates[kind]:
                needs = [n for id_ in after if (n := jobs.get(id_) or before.get(id_))]
                work = functools.partial(run, identity)
                job = jobs[identity] = Job(identity, type_, (*priority, rank), needs, work)
                new.append(job)
        self.engine.submit(new)


def _like(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: memory.empty(array.shape, array.dtype) for name, array in arrays.items()}


def _check_finite(values: np.ndarray, what: str) -> None:
    if not np.isfinite(values).all():
        raise NonFiniteError(f"the {what} is not finite; lower eta or check the data")
