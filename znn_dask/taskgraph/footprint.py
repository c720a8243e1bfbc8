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
from znn_dask.taskgraph.steps import ALL
from znn_dask.taskgraph.tasks import Task, TaskId

_PROCESS_BYTES = 2_000_000  # what Python and the libraries take at their first use
_THREAD_BYTES = 1_000_000  # buffers that BLAS packs matrices into, stacks, plans

Times = list[tuple[float, float]]
"""Start and end in seconds, of each step."""

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
    of_patch = [
        *tape_arrays(layers, execution, training=training),
        *_whole_pass(output_maps(layers), tasks),
    ]
    state = state_arrays(layers, execution)
    runs = _runs(schedule)
    shared = runs.pop(ALL, {})
    intervals = list(_scratch(layers, tasks, schedule, execution, training))
    for own in runs.values():
        intervals += _all_lives(of_patch, {**shared, **own})
        if len(runs) > 1:  # what each patch adds to the sum
            until_added = {t: _joined([own[t], times]) for t, times in shared.items() if t in own}
            intervals += _all_lives(_kernel_gradients(state), until_added)
    constant = 0
    if training:
        of_patches = {t: _joined([own[t] for own in runs.values()]) for t in runs.get(0, {})}
        intervals += _all_lives(state, of_patches | shared)
    else:
        constant = sum(array.bytes for array in state if array.next_users)
    alive = constant + most_alive(intervals)
    pool = round((1 + SPARE_SHARE) * alive) + SPARE_BYTES
    code = storage.code_bytes(layers.convolutions.values(), training=training)
    return pool + code + _PROCESS_BYTES + schedule.threads * _THREAD_BYTES


def _whole_pass(arrays: Iterable[Array], tasks: Sequence[Task]) -> Iterator[Array]:
    """The same arrays, kept until everything else that the step does is done."""
    last = tuple(task.id for task in tasks if task.id.kind not in ("load", "loss"))
    for array in arrays:
        yield Array(array.id, array.bytes, (*array.users, *last))


def _kernel_gradients(state: Iterable[Array]) -> Iterator[Array]:
    """Those of one patch, which nothing but additions needs."""
    for array in state:
        if array.id.kind == "kernel_gradient":
            users = tuple(task for task in array.users if task.kind == "kernel_gradient")
            yield Array(array.id, array.bytes, users)


def _runs(schedule: Schedule) -> dict[int, dict[TaskId, Times]]:
    """Patch -> task -> when it starts and ends, in each step."""
    runs: dict[int, dict[TaskId, Times]] = defaultdict(lambda: defaultdict(list))
    step_of: dict[TaskId, int] = {}  # of the last addition
    for span, patch in zip(schedule.spans, schedule.patches, strict=True):
        task = TaskId(*span.name)  # type: ignore[arg-type]
        times, now = runs[patch][task], (span.start, span.end)
        if patch == ALL:
            if step_of.get(task) == span.step:  # one of several additions
                before = times.pop()
                now = min(now[0], before[0]), max(now[1], before[1])
            step_of[task] = span.step
        times.append(now)
    return runs


def _joined(each: Sequence[Times]) -> Times:
    """From the first start to the last end, in each step."""
    return [
        (min(start for start, _ in times), max(end for _, end in times))
        for times in zip(*each, strict=True)
    ]


def _all_lives(arrays: Iterable[Array], runs: Mapping[TaskId, Times]) -> Iterator[Interval]:
    return (life for array in arrays for life in _lives(array, runs))


def _lives(array: Array, runs: Mapping[TaskId, Times]) -> Iterator[Interval]:
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
