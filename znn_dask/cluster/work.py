"""What granules do on a worker: the functions that Dask tasks call.

Each queues the jobs of its pass in the worker's engine and returns when the type-1 ones are done;
type-2 work goes on behind it, in the gaps of what comes next.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from znn_dask.kernels.layout import map_to_znn
from znn_dask.kernels.losses import LossResult
from znn_dask.kernels.losses import loss as find_loss
from znn_dask.network import Network
from znn_dask.taskgraph.arithmetic import Arithmetic
from znn_dask.taskgraph.cost import TaskCost
from znn_dask.taskgraph.engine import Engine, process_engine
from znn_dask.taskgraph.execution import DEFAULT, Execution
from znn_dask.taskgraph.gradients import Gradients
from znn_dask.taskgraph.layers import compile_layers
from znn_dask.taskgraph.losses import LossRecord, PendingLosses, total
from znn_dask.taskgraph.passes import PatchSource, Tape
from znn_dask.taskgraph.patch_sum import RunningSum, add_up
from znn_dask.taskgraph.pricing import price
from znn_dask.taskgraph.program import NonFiniteError, Program
from znn_dask.taskgraph.rule import Job, Priority
from znn_dask.taskgraph.state import Parameters, State, UpdateRule, to_znn
from znn_dask.taskgraph.tasks import expand
from znn_dask.taskgraph.timeline import Tally
from znn_dask.taskgraph.timings import stored


@dataclass(frozen=True)
class TrainingSpec:
    """All that a worker needs to know of a training job; it travels once per worker.

    Attributes
    ----------
    loss
        Name of the loss, or "given": the targets of a patch are then the output gradients.
    source, validation
        Where patches come from.
    seed
        Of dropout.
    batch
        Patches per update.
    execution
        What is kept and what is made again; of no influence on any result.
    name
        Of the job, for those who watch what the engines do.
    """

    network: Network
    arithmetic: Arithmetic
    loss: str
    source: PatchSource
    seed: int = 0
    batch: int = 1
    validation: PatchSource | None = None
    execution: Execution = DEFAULT
    name: str = ""


class ParkedStateLostError(RuntimeError):
    """A worker began anew where a state had been parked."""


class Context:
    """A training job on one worker."""

    def __init__(self, spec: TrainingSpec, engine: Engine | None = None) -> None:
        self.spec = spec
        layers = compile_layers(spec.network, spec.arithmetic)
        self.engine = process_engine() if engine is None else engine
        counted = expand(layers, TaskCost(layers), execution=spec.execution)
        known = (stored(), self.engine.threads)
        tasks, _ = price(counted, layers, *known, training=True, prompt=spec.execution.prompt)
        self.program = Program(layers, tasks, self.engine, spec.execution, Tally(spec.name))
        self.loss = given if spec.loss == "given" else find_loss(spec.loss)
        self.parked: State | None = None
        self.ahead: dict[tuple[int, int], Tape] = {}  # (step, patch) that was loaded early
        self.overlap = spec.execution.overlap(self.engine.threads)
        # (step, patch) of the last passes, and the jobs of their gradients
        self.passes: deque[tuple[Priority, tuple[Job, ...]]] = deque(maxlen=self.overlap)

    def __reduce__(self) -> tuple[Any, ...]:
        return Context, (self.spec,)


def given(
    outputs: np.ndarray, gradient: np.ndarray, weights: np.ndarray | None = None
) -> LossResult:
    """The "loss" whose gradient is given: E = sum(gradient * output)."""
    return LossResult(float(np.sum(outputs * gradient)), gradient, outputs, 0.0)


def load(context: Context, step: int, patch: int) -> Tape:
    """A tape whose patch is being loaded."""
    spec = context.spec
    index = step * spec.batch + patch
    return context.program.load(
        lambda: spec.source.patch(index), (step, patch), (spec.seed, step, patch)
    )


def forward(context: Context, state: State, tape: Tape) -> Tape:
    """The forward pass and the loss."""
    begin_forward(context, state, tape)
    context.engine.wait(tape.jobs.values())
    return tape


def begin_forward(context: Context, state: State, tape: Tape) -> None:
    """Queue the forward pass and the loss."""
    step, patch = tape.priority
    before = step, patch - context.overlap
    after = [job for at, jobs in tuple(context.passes) if at == before for job in jobs]
    context.program.forward(state, tape, after)
    context.program.loss(tape, lambda tape: _apply_loss(context, tape))


def begin_backward(context: Context, state: State, tape: Tape) -> Gradients:
    """Queue the backward pass."""
    gradients = context.program.backward(state, tape)
    context.passes.append((tape.priority, tuple(gradients.jobs.values())))
    return gradients


def backward(context: Context, state: State, tape: Tape) -> Gradients:
    """The backward pass; the gradients of the kernels may still be on their way."""
    gradients = begin_backward(context, state, tape)
    context.engine.wait(tape.jobs.values())
    return gradients


def gradients(context: Context, state: State, step: int, start: int, stop: int) -> Gradients:
    """The gradients of patches `start` .. `stop` of a step, summed in the tree's order."""
    under_way: deque[list[Job]] = deque()
    following = step + 1, start
    tapes = _loading(context, [(step, patch) for patch in range(start, stop)])
    found = _summed(context, state, tapes, under_way)
    context.ahead[following] = load(context, *following)  # fills the gaps of the exchange
    for jobs in under_way:
        context.engine.wait(jobs)
    return found


def add(context: Context, *given: Any) -> Gradients:
    """The sum of several gradients; `given` ends with their `Order` and the step."""
    *parts, order, step = given
    return add_up(order, parts, lambda a, b: context.program.add(a, b, (step, 0)))


def relay(context: Context, gradients: Gradients) -> Gradients:
    """The gradients, here now, for others to fetch."""
    return gradients


def update(context: Context, state: State, *given: Any) -> State:
    """The next state, usable at once; `given` are gradients, their `Order`, and the rule."""
    *parts, order, rule = given
    return context.program.update(state, add(context, *parts, order, state.step), rule)


def train(context: Context, state: State, first: int, rules: Sequence[UpdateRule]) -> State:
    """Several whole updates; the last ones may still be under way."""
    # Their jobs and not their tapes: what a finished pass held is what the next takes, still warm.
    under_way: deque[list[Job]] = deque()
    losses: list[PendingLosses] = []
    batch = context.spec.batch
    steps = range(first, first + len(rules))
    tapes = _loading(context, [(step, patch) for step in steps for patch in range(batch)])
    for rule in rules:
        summed = _summed(context, state, islice(tapes, batch), under_way)
        state = context.program.update(state, summed, rule)
        losses.extend(summed.losses)
    state.losses = tuple(losses)
    return state


def _loading(context: Context, patches: Sequence[tuple[int, int]]) -> Iterator[Tape]:
    """Tapes of these (step, patch), the next one always on its way."""
    tapes: deque[Tape] = deque()
    for patch in patches:
        early = context.ahead.pop(patch, None)
        tapes.append(load(context, *patch) if early is None else early)
        if len(tapes) > 1:
            yield tapes.popleft()
    yield from tapes


def _summed(
    context: Context, state: State, tapes: Iterable[Tape], under_way: deque[list[Job]]
) -> Gradients:
    """Queue the passes of these patches, few at a time, and the sum of their gradients."""
    running = RunningSum[Gradients](lambda a, b: context.program.add(a, b, (state.step, 0)))
    for tape in tapes:
        begin_forward(context, state, tape)
        running.append(begin_backward(context, state, tape))
        under_way.append(list(tape.jobs.values()))
        if len(under_way) > context.spec.execution.steps_ahead:
            context.engine.wait(under_way.popleft())
    return running.total()


def report(context: Context, state: State) -> list[LossRecord]:
    """Losses of the patches behind the granule's updates."""
    context.engine.wait(pending.job for pending in state.losses if pending.job is not None)
    return [record for pending in state.losses for record in pending.records]


def start(spec: TrainingSpec) -> Context:
    """The job on this worker."""
    return Context(spec)


def new_state(
    context: Context, parameters: Parameters, momenta: Parameters | None, step: int
) -> State:
    """A state from arrays in ZNN's layout."""
    spec = context.spec
    dtype = spec.arithmetic.dtype
    return State.from_parameters(spec.network, parameters, momenta, dtype=dtype, step=step)


def receive(context: Context, state: State) -> State:
    """A state of another slot, as this one's own: its kernels; spectra are made where they are."""
    context.engine.wait(state.jobs.values())
    return replace(state, spectra={}, jobs={}, losses=())


def snapshot(context: Context, state: State) -> tuple[Parameters, Parameters]:
    """Parameters and momenta in ZNN's layout; forces what is pending."""
    context.engine.wait(state.jobs.values())
    return state.parameters(), state.momenta()


def park(context: Context, state: State) -> None:
    """Keep a finished state on this worker until `unpark`."""
    context.engine.wait(state.jobs.values())
    context.parked = state


def unpark(context: Context) -> State:
    """The parked state, as the first of a new lineage: Dask forgets all that led to it."""
    if context.parked is None:
        raise ParkedStateLostError("the parked state was lost with its worker")
    return context.parked


def gather(context: Context, tape: Tape, gradients: Gradients) -> tuple[Parameters, Parameters]:
    """Outputs (c, z, y, x) and gradients of the parameters, in ZNN's layout."""
    context.engine.wait(gradients.jobs.values())
    outputs = {n.name: map_to_znn(tape.maps[n.name]) for n in context.spec.network.outputs}
    return outputs, to_znn(gradients.kernels, gradients.biases)


def passes(context: Context, parameters: Parameters) -> tuple[Parameters, Parameters]:
    """Forward and backward pass of patch 0, then `gather`."""
    state = new_state(context, parameters, None, 0)
    tape = forward(context, state, load(context, 0, 0))
    return gather(context, tape, backward(context, state, tape))


def validate(context: Context, state: State, patches: int) -> LossRecord:
    """Loss of the first patches of the validation source, without dropout."""
    spec = context.spec
    if spec.validation is None:
        raise ValueError("there is no validation data")
    tapes: deque[Tape] = deque()
    records: list[LossRecord] = []

    def finish(tape: Tape) -> None:
        context.engine.wait(tape.jobs.values())
        records.extend(tape.losses.records)

    for index in range(patches):
        tape = _validation_tape(context, spec.validation, state.step, index)
        begin_forward(context, state, tape)
        tapes.append(tape)
        if len(tapes) > context.spec.execution.steps_ahead:
            finish(tapes.popleft())
    for tape in tapes:
        finish(tape)
    return total(state.step, records)


def _validation_tape(context: Context, source: PatchSource, step: int, index: int) -> Tape:
    return context.program.load(lambda: source.patch(index), (step, index), training=False)


def _apply_loss(context: Context, tape: Tape) -> None:
    patch = tape.patch
    assert patch is not None  # loaded before the forward pass
    value = wrong = elements = 0.0
    for node in context.spec.network.outputs:
        name = node.name
        weights = patch.weights.get(name)
        result = context.loss(tape.maps[name], patch.targets[name], weights)
        tape.output_gradients[name] = result.gradient
        value += result.value
        wrong += result.wrong
        size = tape.maps[name].size
        elements += size if weights is None else size * np.count_nonzero(weights) / weights.size
    step = tape.priority[0]
    if not np.isfinite(value):
        raise NonFiniteError(f"the loss is {value} at step {step}; lower eta or check the data")
    tape.losses.records.append(LossRecord(step, value, wrong, elements))


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "load": load,
    "forward": forward,
    "backward": backward,
    "gradients": gradients,
    "add": add,
    "relay": relay,
    "update": update,
    "train": train,
    "report": report,
    "start": start,
    "new_state": new_state,
    "receive": receive,
    "snapshot": snapshot,
    "park": park,
    "unpark": unpark,
    "validate": validate,
    "gather": gather,
}
"""`Granule.work` -> what it calls."""
