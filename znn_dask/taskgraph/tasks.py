"""Typed tasks: one training step of one patch, unrolled into the work that ZNN schedules.

    load ─> forward(n, b) ─> loss ─> backward(n, b)      type 1: their result spawns new tasks
                ^                         │
                │                  kernel_gradient(e, c)   type 2: they fill the gaps
                │                         │                (`load` too)
                └─ kernel_spectrum(e, c) <─ update(e, c)
                   (of the step before)

A forward or backward task computes one block of one node group's map, with all the edge groups that
enter it: several edges are summed where they meet, in the frequency domain if their spectra agree.
The other kinds work on blocks of a kernel's input channels; only `input_spectrum`, which makes what
the forward pass dropped for kernel_gradient again, works on blocks of the map. Where the execution
is prompt, one layer's spectra are there at a time: the gradient of a convolution's output begins
when it is complete, a backward task leaves input gradients to tasks of their own (type 1), which
wait for kernel_gradient, and so force it, and kernel_spectrum comes after the backward pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from znn_dask.kernels.geometry import intersect
from znn_dask.taskgraph.cost import TaskCost
from znn_dask.taskgraph.execution import DEFAULT, Execution
from znn_dask.taskgraph.layers import Layers

Kind = Literal[
    "load",
    "forward",
    "loss",
    "backward",
    "input_gradient",
    "input_spectrum",
    "kernel_gradient",
    "update",
    "kernel_spectrum",
    "bias_gradient",
    "bias_update",
]

TYPE: dict[str, int] = {
    "forward": 1,
    "loss": 1,
    "backward": 1,
    "input_gradient": 1,
    "load": 2,
    "input_spectrum": 2,
    "kernel_gradient": 2,
    "update": 2,
    "kernel_spectrum": 2,
    "bias_gradient": 2,
    "bias_update": 2,
}


class TaskId(NamedTuple):
    """Which task of a step: its kind, its node or edge group, and the block."""

    kind: Kind
    layer: str
    block: int = 0


LOAD = TaskId("load", "patch")
LOSS = TaskId("loss", "patch")


@dataclass(frozen=True, slots=True)
class Task:
    """A typed task.

    Attributes
    ----------
    id
        Kind, layer and block.
    needs
        Tasks of the same step that must be done before.
    needs_previous
        Tasks of the step before (on the first step, their result is in the initial state).
    seconds
        Estimated time on one thread.
    bytes
        Bytes that its result keeps until it is consumed.
    """

    id: TaskId
    needs: tuple[TaskId, ...]
    needs_previous: tuple[TaskId, ...] = ()
    seconds: float = 0.0
    bytes: int = 0

    @property
    def type(self) -> int:
        """1 or 2, see the module's drawing."""
        return TYPE[self.id.kind]


def expand(
    layers: Layers,
    cost: TaskCost,
    *,
    training: bool = True,
    execution: Execution = DEFAULT,
) -> tuple[Task, ...]:
    """The tasks of one step in an order in which every task follows what it needs.

    Forward only (`training=False`): no loss, no backward, no updates.
    """
    tasks = [Task(LOAD, (), seconds=cost.load, bytes=cost.patch_bytes), *_forward(layers, cost)]
    if training:
        outputs = tuple(
            TaskId("forward", node.name, b)
            for node in layers.network.outputs
            for b in range(len(layers.blocks[node.name]))
        )
        tasks.append(Task(LOSS, outputs, seconds=cost.loss))
        tasks.extend(_backward(layers, cost, execution))
        tasks.extend(_updates(layers, cost, execution))
    return _in_order(tasks)


def _in_order(tasks: list[Task]) -> tuple[Task, ...]:
    """The same tasks, each after what it needs, otherwise in the order given."""
    by_id = {task.id: task for task in tasks}
    ordered: dict[TaskId, Task] = {}
    stack = tasks[::-1]
    while stack:
        task = stack[-1]
        missing = [by_id[need] for need in task.needs if need not in ordered]
        if missing:
            stack.extend(reversed(missing))
        else:
            ordered.setdefault(stack.pop().id, task)
    return tuple(ordered.values())


def _forward(layers: Layers, cost: TaskCost) -> Iterator[Task]:
    inputs = {node.name for node in layers.network.inputs}
    for node in layers.network.topological:
        if node.name in inputs:
            continue
        for b, block in enumerate(layers.blocks[node.name]):
            needs: list[TaskId] = []
            parameters = list(_bias_task(layers, node.name))
            for edge in layers.network.edges_into(node.name):
                if edge.input in inputs:
                    needs.append(LOAD)
                box = layers.input_box(edge.name, block)
                needs.extend(
                    TaskId("forward", edge.input, i)
                    for i, source in enumerate(layers.blocks[edge.input])
                    if edge.input not in inputs and intersect(source, box) is not None
                )
                if edge.name in layers.convolutions:
                    parameters.extend(_kernel_tasks(layers, edge.name))
            yield Task(
                TaskId("forward", node.name, b),
                tuple(dict.fromkeys(needs)),
                tuple(parameters),
                cost.forward(node.name, block),
                cost.map_bytes(node.name, block),
            )


def _kernel_tasks(layers: Layers, edge: str) -> Iterator[TaskId]:
    """The tasks whose result a forward pass reads as this edge's kernel."""
    kind: Kind = "kernel_spectrum" if layers.transformed(edge) else "update"
    return (TaskId(kind, edge, c) for c in range(len(layers.channel_blocks[edge])))


def _bias_task(layers: Layers, node: str) -> Iterator[TaskId]:
    return (TaskId("bias_update", node) for _ in range(layers.has_bias(node)))


def _backward(layers: Layers, cost: TaskCost, execution: Execution) -> Iterator[Task]:
    for node in reversed(layers.network.topological):
        if node.name not in layers.trained:
            continue
        edges_out = layers.network.edges_from(node.name)
        into = layers.network.edges_into(node.name)
        after_all = execution.prompt and any(edge.name in layers.convolutions for edge in into)
        for b, block in enumerate(layers.blocks[node.name]):
            needs = [] if edges_out else [LOSS]
            for edge in edges_out:
                needs.extend(
                    slab_task(layers, execution, edge.name, i)
                    for i, target in enumerate(layers.blocks[edge.output])
                    if after_all
                    or intersect(layers.input_box(edge.name, target), block) is not None
                )
            yield Task(
                TaskId("backward", node.name, b),
                tuple(needs),
                seconds=cost.backward(node.name, block, prompt=execution.prompt),
                bytes=cost.map_bytes(node.name, block),
            )
        if execution.prompt:
            yield from _input_gradients(layers, cost, node.name)


def _input_gradients(layers: Layers, cost: TaskCost, node: str) -> Iterator[Task]:
    for edge in layers.network.edges_into(node):
        if edge.name not in layers.convolutions or edge.input not in layers.trained:
            continue
        channels = range(len(layers.channel_blocks[edge.name]))
        gradients = [TaskId("kernel_gradient", edge.name, c) for c in channels]
        for b, block in enumerate(layers.blocks[node]):
            yield Task(
                TaskId("input_gradient", edge.name, b),
                (TaskId("backward", node, b), *gradients),
                seconds=cost.input_gradient(edge.name, block),
                bytes=cost.map_bytes(edge.input, layers.input_box(edge.name, block)),
            )


def slab_task(layers: Layers, execution: Execution, edge: str, block: int) -> TaskId:
    """The task that passes the gradient of a block back through an edge group."""
    if execution.prompt and edge in layers.convolutions:
        return TaskId("input_gradient", edge, block)
    return TaskId("backward", layers.network.edge(edge).output, block)


def _updates(layers: Layers, cost: TaskCost, execution: Execution) -> Iterator[Task]:
    last = tuple(_last_gradients(layers)) if execution.prompt else ()
    for node in layers.network.topological:
        if node.name not in layers.trained:
            continue
        blocks = range(len(layers.blocks[node.name]))
        gradient = tuple(TaskId("backward", node.name, b) for b in blocks)
        if layers.has_bias(node.name):
            yield Task(TaskId("bias_gradient", node.name), gradient)
            yield Task(TaskId("bias_update", node.name), (TaskId("bias_gradient", node.name),))
        for edge in layers.network.edges_into(node.name):
            if edge.name not in layers.convolutions:
                continue
            spectra: tuple[TaskId, ...] = ()
            if edge.name in execution.recomputed:
                spectra = tuple(TaskId("input_spectrum", edge.name, b) for b in blocks)
                for spectrum, block in zip(spectra, layers.blocks[node.name], strict=True):
                    seconds = cost.input_spectrum(edge.name, block)
                    yield Task(spectrum, gradient, seconds=seconds)
            for c, channels in enumerate(layers.channel_blocks[edge.name]):
                at = (edge.name, c)
                yield Task(
                    TaskId("kernel_gradient", *at),
                    (*gradient, *spectra),
                    seconds=cost.kernel_gradient(edge.name, channels),
                )
                yield Task(
                    TaskId("update", *at),
                    (TaskId("kernel_gradient", *at),),
                    seconds=cost.update(edge.name, channels),
                )
                if layers.transformed(edge.name):
                    yield Task(
                        TaskId("kernel_spectrum", *at),
                        (TaskId("update", *at), *last),
                        seconds=cost.kernel_spectrum(edge.name, channels),
                        bytes=cost.kernel_spectrum_bytes(edge.name, channels),
                    )


def _last_gradients(layers: Layers) -> Iterator[TaskId]:
    """Of the kernels that read the network's inputs: with them a backward pass is over."""
    for edge in layers.convolutions:
        if layers.network.edge(edge).input not in layers.trained:
            for c, _ in enumerate(layers.channel_blocks[edge]):
                yield TaskId("kernel_gradient", edge, c)
