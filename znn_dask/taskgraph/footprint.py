"""The memory that a plan will take: the arrays that are alive at a time in the simulated schedule.

An array is there from the start of its first user to the end of its last (`arrays`), a task's
scratch while it runs. The pool returns nothing to the system, so the peak is what counts.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from znn_dask.kernels import storage
from znn_dask.kernels.geometry import Box, box_shape
from znn_dask.kernels.memory import SPARE_BYTES, SPARE_SHARE
from znn_dask.taskgraph.arrays import Array, output_maps, state_arrays, tape_arrays
from znn_dask.taskgraph.execution import Execution
from znn_dask.taskgraph.layers import Layers
from znn_dask.taskgraph.schedule import Schedule
from znn_dask.taskgraph.tasks import Task, TaskId

_PROCESS_BYTES = 2_000_000  # what Python and the libraries take at their first use
_THREAD_BYTES = 1_000_000  # buffers that BLAS packs matrices into, stacks, plans

Interval = tuple[float, float, int]
"""Start and end in seconds, bytes."""


def peak_bytes(
    layers: Layers,
    tasks: Sequence[Task],
    schedule: Schedule,
    execution: Execution,
    *,
    training: bool,
) -> int:
    """Predicted peak bytes of a worker above the idle process."""
    arrays = [
        *tape_arrays(layers, execution, training=training),
        *_whole_pass(output_maps(layers), tasks),
    ]
    constant = 0
    if training:
        arrays += state_arrays(layers, execution)
    else:
        constant = sum(array.bytes for array in state_arrays(layers, execution) if array.next_users)
    runs = _runs(schedule)
    intervals = [
        *(interval for array in arrays for interval in _lives(array, runs)),
        *_scratch(layers, tasks, schedule, execution, training),
    ]
    alive = constant + most_alive(intervals)
    pool = round((1 + SPARE_SHARE) * alive) + SPARE_BYTES
    code = storage.code_bytes(layers.convolutions.values(), training=training)
    return pool + code + _PROCESS_BYTES + schedule.threads * _THREAD_BYTES


def _whole_pass(arrays: Iterable[Array], tasks: Sequence[Task]) -> Iterator[Array]:
    """The same arrays, kept until everything else that the step does is done."""
    last = tuple(task.id for task in tasks if task.id.kind not in ("load", "loss"))
    for array in arrays:
        yield Array(array.id, array.bytes, (*array.users, *last))


def _runs(schedule: Schedule) -> Mapping[TaskId, list[tuple[float, float]]]:
    """Task -> when it starts and ends, in each step."""
    runs: dict[TaskId, list[tuple[float, float]]] = defaultdict(list)
    for span in schedule.spans:
        runs[TaskId(*span.name)].append((span.start, span.end))  # type: ignore[arg-type]
    return runs


def _lives(array: Array, runs: Mapping[TaskId, list[tuple[float, float]]]) -> Iterator[Interval]:
    """The life of an array in each step; of those of the state also before the first."""
    users = [runs[task] for task in array.users]
    after = [runs[task] for task in array.next_users]
    steps = len(users[0])
    for step in range(-1 if after else 0, steps):
        now = [times[step] for times in users] if step >= 0 else [(0.0, 0.0)]
        then = [times[step + 1] for times in after] if step + 1 < steps else []
        end = math.inf if after and not then else max(end for _, end in (*now, *then))
        yield min(start for start, _ in now), end, array.bytes


def _scratch(
    layers: Layers,
    tasks: Sequence[Task],
    schedule: Schedule,
    execution: Execution,
    training: bool,
) -> Iterator[Interval]:
    sizes = {task.id: _task_scratch(layers, task.id, execution, training) for task in tasks}
    for span in schedule.spans:
        yield span.start, span.end, sizes[TaskId(*span.name)]  # type: ignore[arg-type]


def _task_scratch(layers: Layers, task: TaskId, execution: Execution, training: bool) -> int:
    """Bytes that a task takes while it runs, besides the arrays of the step."""
    match task.kind:
        case "forward":
            return _forward_scratch(layers, task, execution, training)
        case "backward":
            return _backward_scratch(layers, task, execution)
        case "input_gradient":
            block = layers.blocks[layers.network.edge(task.layer).output][task.block]
            return storage.backward_scratch(layers.convolutions[task.layer], block)
        case "kernel_gradient":
            channels = layers.channel_blocks[task.layer][task.block]
            return storage.kernel_gradient_scratch(layers.convolutions[task.layer], channels)
    return 0


def _forward_scratch(layers: Layers, task: TaskId, execution: Execution, training: bool) -> int:
    """A block is copied where it belongs; several edges are made one after the other."""
    block, result = _block_of(layers, task)
    edges = layers.network.edges_into(task.layer)
    most = waiting = 0
    for edge in edges:
        convolution = layers.convolutions.get(edge.name)
        if convolution is None:
            most, waiting = max(most, waiting + result), waiting + result
            continue
        kept = training and edge.name not in execution.recomputed
        spectrum = 0 if kept else storage.input_spectrum_bytes(convolution, block)
        product = storage.forward_product(convolution, block)
        whole = storage.forward_scratch(convolution, block) + result
        most = max(most, waiting + max(spectrum + product, whole))
        waiting += product * (len(edges) > 1)
    return max(most, result + waiting)


def _backward_scratch(layers: Layers, task: TaskId, execution: Execution) -> int:
    """The gradient of a block, or, when that is gone, what it takes to pass it on."""
    block, result = _block_of(layers, task)
    edges = (e for e in layers.network.edges_into(task.layer) if e.input in layers.trained)
    names = [e.name for e in edges if e.name in layers.convolutions and not execution.prompt]
    passed = (storage.backward_scratch(layers.convolutions[name], block) for name in names)
    return max([result, *passed])


def _block_of(layers: Layers, task: TaskId) -> tuple[Box, int]:
    """A task's block of the map of its node group, and the bytes of that."""
    block = layers.blocks[task.layer][task.block]
    itemsize = np.dtype(layers.arithmetic.dtype).itemsize
    return block, math.prod(box_shape(block)) * layers.network.node(task.layer).size * itemsize


def most_alive(intervals: Iterable[Interval]) -> int:
    """The most bytes alive at a time."""
    events = []
    for start, end, nbytes in intervals:
        events += [(start, nbytes), (end, -nbytes)]
    events.sort()  # what ends makes room for what starts at the same time
    alive = most = 0
    for _, change in events:
        alive += change
        most = max(most, alive)
    return most
