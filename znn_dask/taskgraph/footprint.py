"""The memory that a plan will take: the arrays that are alive at a time in the simulated schedule.

An array is there from the start of its first user to the end of its last (`arrays`), a task's
scratch while it runs. The pool returns nothing to the system, so the peak is what counts.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from znn_dask.kernels import storage
from znn_dask.kernels.geometry import box_shape
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
        arrays += state_arrays(layers)
    else:
        constant = sum(array.bytes for array in state_arrays(layers) if array.next_users)
    runs = _runs(schedule)
    intervals = [
        *(interval for array in arrays for interval in _lives(array, runs)),
        *_scratch(layers, tasks, schedule, training),
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
    layers: Layers, tasks: Sequence[Task], schedule: Schedule, training: bool
) -> Iterator[Interval]:
    sizes = {task.id: _task_scratch(layers, task.id, training) for task in tasks}
    for span in schedule.spans:
        yield span.start, span.end, sizes[TaskId(*span.name)]  # type: ignore[arg-type]


def _task_scratch(layers: Layers, task: TaskId, training: bool) -> int:
    """Bytes that a task takes while it runs, besides the arrays of the step."""
    if task.kind in ("forward", "backward"):
        return _block_scratch(layers, task, training)
    if task.kind == "kernel_gradient":
        channels = layers.channel_blocks[task.layer][task.block]
        return storage.kernel_gradient_scratch(layers.convolutions[task.layer], channels)
    return 0


def _block_scratch(layers: Layers, task: TaskId, training: bool) -> int:
    block = layers.blocks[task.layer][task.block]
    node = layers.network.node(task.layer)
    itemsize = np.dtype(layers.arithmetic.dtype).itemsize
    result = math.prod(box_shape(block)) * node.size * itemsize
    # What a task makes is copied where it belongs; several edges are made one after the other.
    most = waiting = 0
    for edge in layers.network.edges_into(task.layer):
        convolution = layers.convolutions.get(edge.name)
        if convolution is None:
            most, waiting = max(most, waiting + result), waiting + result
        elif task.kind == "backward":
            if edge.input in layers.trained:
                most = max(most, storage.backward_scratch(convolution, block))
        else:
            spectrum = 0 if training else storage.input_spectrum_bytes(convolution, block)
            product = storage.forward_scratch(convolution, block)
            most = max(most, waiting + spectrum + product)
            waiting += product // 2 * (len(layers.network.edges_into(task.layer)) > 1)
    return result + max(most, waiting)


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
