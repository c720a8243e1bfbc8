"""The memory that a prediction needs.  Pure.

Patches are run through the simulated engine (`taskgraph.schedule`); so it is known which typed
tasks run at the same time, hence which maps are alive and what scratch is in use at each moment.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from znn_dask.inference.blocks import PredictionError
from znn_dask.kernels import storage
from znn_dask.kernels.geometry import Box, whole
from znn_dask.kernels.memory import SPARE_BYTES, SPARE_SHARE
from znn_dask.taskgraph.cost import TaskCost
from znn_dask.taskgraph.footprint import Interval, most_alive
from znn_dask.taskgraph.forward import forward_tasks
from znn_dask.taskgraph.layers import Layers
from znn_dask.taskgraph.schedule import simulate
from znn_dask.taskgraph.tasks import Task, TaskId
from znn_dask.taskgraph.timeline import Span

# Blocks that are read or written while the others compute.
OVERLAP = 1


@dataclass(frozen=True)
class Room:
    """Patches that a process has under way at a time, and threads that compute them."""

    patches: int
    threads: int


class Need:
    """Memory of a prediction in one process.

    Parameters
    ----------
    layers
        The forward passes over one block: one, or also one over its transpose, of as many voxels.
    passes
        Forward passes whose results one block adds up (test-time augmentation).
    """

    def __init__(self, layers: Sequence[Layers], passes: int = 1) -> None:
        self.layers = layers[0]
        self._cost = TaskCost(self.layers)
        network = self.layers.network
        self.shared = sum(
            storage.kernel_spectrum_bytes(convolution)
            for each in layers
            for convolution in each.convolutions.values()
        )
        inputs = sum(self._map(node.name) for node in network.inputs)
        results = sum(self._map(node.name) for node in network.outputs)
        # As read and as preprocessed; as computed and as stored, and the sums over flips.
        self._outside = 2 * inputs + (2 if passes == 1 else 4) * results
        self.seconds = passes * sum(task.seconds for task in self.tasks)
        self._known: dict[Room, int] = {}

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The typed tasks of one pass, with seconds by the table that is the same everywhere."""
        return forward_tasks(self.layers, self._cost)

    @cached_property
    def parallelism(self) -> float:
        """Threads that one patch can keep busy."""
        ends: dict[TaskId, float] = {}
        for task in self.tasks:
            ready = max((ends[need] for need in task.needs), default=0.0)
            ends[task.id] = ready + task.seconds
        return sum(task.seconds for task in self.tasks) / max(ends.values())

    def bytes(self, room: Room) -> int:
        """Memory of so many patches and threads, and of one block being read or written."""
        if room not in self._known:
            self._known[room] = self._bytes(room)
        return self._known[room]

    def _bytes(self, room: Room) -> int:
        peak = self._peak(run(self.tasks, room))
        return self.shared + self.outside(room) + round((1 + SPARE_SHARE) * peak) + SPARE_BYTES

    def outside(self, room: Room) -> int:
        """Bytes of inputs and results outside the forward passes."""
        return (room.patches + OVERLAP) * self._outside

    def room(self, threads: int, memory: int) -> Room | None:
        """Threads, up to `threads`, and patches that fit into `memory`; None if not even one.

        As many patches as keep the threads busy, and one more that fills the gaps of the others;
        where that is too much, what keeps most threads busy.
        """
        wanted = 1 + math.ceil(threads / self.parallelism)
        best: tuple[float, Room] | None = None
        for patches in range(wanted, 0, -1):
            count = self._threads(patches, threads, memory)
            busy = min(count, patches * self.parallelism)
            if count and (best is None or busy > best[0]):
                best = busy, Room(patches, count)
            if busy == threads:
                break
        return best[1] if best else None

    def _threads(self, patches: int, most: int, memory: int) -> int:
        """How many threads fit beside so many patches."""
        if self.bytes(Room(patches, most)) <= memory:
            return most
        return bisect.bisect_right(
            range(1, most), memory, key=lambda threads: self.bytes(Room(patches, threads))
        )

    def fitting(self, threads: int, memory: int) -> Room:
        """`room`; raises PredictionError when not even one block fits into `memory`."""
        room = self.room(threads, memory)
        if room is None:
            raise PredictionError(
                f"one block needs about {mib(self.bytes(Room(1, 1)))} but only {mib(memory)} may "
                "be used: raise memory_limit or give a smaller block"
            )
        return room

    def _peak(self, spans: Sequence[Span]) -> int:
        """The most bytes of maps and scratch alive at a time."""
        intervals: list[Interval] = []
        alive: dict[tuple[int, str], tuple[float, float]] = {}
        for span in spans:
            task = TaskId(*span.name)  # type: ignore[arg-type]
            intervals.append((span.start, span.end, self._scratch[task]))
            sources = [edge.input for edge in self.layers.network.edges_into(task.layer)]
            for name in (task.layer, *sources):
                first, last = alive.get((span.step, name), (span.start, span.end))
                alive[span.step, name] = min(first, span.start), max(last, span.end)
        intervals += [(*life, self._map(name)) for (_, name), life in alive.items()]
        return most_alive(intervals)

    def _map(self, node: str) -> int:
        return self._cost.map_bytes(node, whole(self.layers.sizes[node]))

    @cached_property
    def _scratch(self) -> dict[TaskId, int]:
        """What each task takes besides maps."""
        blocks = self.layers.blocks
        return {
            task.id: self._scratch_of(task.id.layer, blocks[task.id.layer][task.id.block])
            for task in self.tasks
        }

    def _scratch_of(self, node: str, block: Box) -> int:
        result = self._cost.map_bytes(node, block)
        total = 0
        for edge in self.layers.network.edges_into(node):
            if edge.name in self.layers.convolutions:
                convolution = self.layers.convolutions[edge.name]
                total += storage.input_spectrum_bytes(convolution, block)
                total += storage.forward_scratch(convolution, block)
            else:
                total += result // 2  # a maximum keeps bytes of what each pass chose
        return result + total


def run(tasks: Sequence[Task], room: Room) -> tuple[Span, ...]:
    """As many patches as `room` holds on its threads, each a step of the simulation."""
    patches = room.patches
    return simulate(tasks, room.threads, steps=patches, job_seconds=0.0, steps_ahead=patches).spans


def mib(size: int) -> str:
    """`1234 MiB`."""
    return f"{size / 2**20:.0f} MiB"
