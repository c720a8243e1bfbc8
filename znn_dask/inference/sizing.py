"""Choosing the block and chunk shapes of a prediction.  Pure.

A larger block computes fewer voxels twice (its halo), but takes more memory.  Which shapes are
worth a look is found by counting; those few are then timed by the cost table and simulated for
their memory, and the one that is through with the volume first is taken.  The choice depends on the
network, the volume and the memory limit only, never on how many threads or workers there happen to
be, nor on what was measured: the block decides how sums are ordered, and the same prediction shall
give the same bits everywhere.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from znn_dask.inference.blocks import PredictionError, Triple, triple
from znn_dask.inference.need import Need, Room, mib
from znn_dask.network import Network
from znn_dask.taskgraph import Arithmetic, choose_arithmetic
from znn_dask.taskgraph.layers import compile_layers

# For blocks in flight where the user says nothing: a usual machine has it.
DEFAULT_BYTES = 2 << 30
# Patches and threads that the choice reckons with; see above for why it is a constant. Other
# numbers of threads get more or fewer patches at run time.
NOMINAL = Room(patches=2, threads=4)
CHUNK_EDGE = 64
# Chunks may be so long where blocks are thin, as those of networks that see one slice.
THIN_CHUNK_EDGE = 256
# Shapes are rounded up to this where an axis is cut, or are 4, 2 or 1: transforms and chunks of odd
# sizes are slow.
GRAIN = 8
_CANDIDATES = 5  # shapes that are looked at closely
_APART = math.sqrt(2)  # in size


@dataclass(frozen=True)
class Candidate:
    """A block shape: memory at `NOMINAL`, seconds on one core by the table that is the same
    everywhere, for the whole volume, and the share of the work that is spent on halos."""

    block: Triple
    count: int
    bytes: int
    seconds: float
    waste: float


class Cost:
    """Work and memory of forward passes of `network`, as functions of their output size.

    passes: forward passes whose results one block adds up (test-time augmentation)
    """

    def __init__(self, network: Network, passes: int = 1, dtype: str = "float32") -> None:
        self.network = network
        self.passes = passes
        self.dtype = dtype
        self._channels = {node.name: node.size for node in network.nodes}
        self._weights = {
            node.name: 20.0 * node.size
            + sum(
                node.size * self._channels[edge.input]
                for edge in network.edges_into(node.name)
                if edge.type == "conv"
            )
            for node in network.nodes
        }
        self.chosen = lru_cache(maxsize=64)(self._chosen)
        self._lengths = lru_cache(maxsize=4096)(self._map_lengths)

    def _map_lengths(self, length: int) -> dict[str, Triple]:
        return self.network.sizes((length, length, length))

    def _voxels(self, output_size: Triple) -> dict[str, int]:
        lengths = [self._lengths(n) for n in output_size]
        return {
            name: math.prod(lengths[axis][name][axis] for axis in range(3))
            for name in self._channels
        }

    def work(self, output_size: Triple) -> float:
        """Relative time of one block: channel products of convolutions, and passes over maps."""
        voxels = self._voxels(output_size)
        return self.passes * sum(voxels[name] * weight for name, weight in self._weights.items())

    def size(self, output_size: Triple) -> int:
        """Values in all maps of one block, a relative measure of its memory."""
        return sum(n * self._channels[name] for name, n in self._voxels(output_size).items())

    def least_bytes(self, output_size: Triple) -> int:
        """A bound on the memory of one block: the maps that one layer reads and writes."""
        voxels = self._voxels(output_size)
        values = {name: n * self._channels[name] for name, n in voxels.items()}
        return np.dtype(self.dtype).itemsize * max(
            values[node.name] + max(map(values.__getitem__, sources), default=0)
            for node in self.network.nodes
            for sources in [{edge.input for edge in self.network.edges_into(node.name)}]
        )

    def waste(self, shape: Triple, count: int, output_size: Triple) -> float:
        """Share of the work of `count` blocks that a volume of `shape` in one piece, without any
        halo, would not take."""
        needed = self.passes * math.prod(shape) * sum(self._weights.values())
        return 1 - needed / (count * self.work(output_size))

    def need(self, *arithmetic: Arithmetic) -> Need:
        """Memory of one block, computed at each of these sizes in turn."""
        return Need([compile_layers(self.network, how) for how in arithmetic], self.passes)

    def _chosen(self, output_size: Triple) -> Need:
        """Need of one block with the arithmetic that it gets by default."""
        return self.need(choose_arithmetic(self.network, output_size, self.dtype, training=False))


def choose(
    output_shape: Triple,
    cost: Cost,
    limit: int = DEFAULT_BYTES,
    unit: Triple | None = None,
    margin: Triple = (0, 0, 0),
) -> tuple[Triple, Triple]:
    """(chunk shape, block shape) with the least predicted seconds for the whole volume among those
    whose blocks in flight fit into `limit` bytes.

    unit: chunk shape if it is already decided.
    Raises PredictionError when even the smallest block does not fit.
    """
    best = fastest(candidates(output_shape, cost, limit, unit, margin)).block
    return unit or chunks_of(best, output_shape), best


def fastest(found: list[Candidate]) -> Candidate:
    """The one with the least seconds; of equal ones the smallest."""
    return min(found, key=lambda candidate: (candidate.seconds, candidate.bytes))


def candidates(
    output_shape: Triple,
    cost: Cost,
    limit: int,
    unit: Triple | None = None,
    margin: Triple = (0, 0, 0),
) -> list[Candidate]:
    """The blocks that come into question, the largest first; at `NOMINAL` or, where none fits so,
    alone and on one thread.

    Raises PredictionError when even the smallest block does not fit.
    """
    shapes = list(_shapes(output_shape, cost, unit, margin))
    for room in (NOMINAL, Room(1, 1)):
        found: list[Candidate] = []
        for block in shapes:
            if block != shapes[-1] and cost.least_bytes(_plus(block, margin)) > limit:
                continue
            candidate = _candidate(output_shape, block, cost, margin, room)
            if candidate.bytes <= limit:
                found.append(candidate)
            if len(found) == _CANDIDATES:
                break
        if found:
            return found
    raise PredictionError(
        f"the smallest block {candidate.block} needs {mib(candidate.bytes)} but blocks may take "
        f"{mib(limit)}: raise memory_limit, or give smaller chunks"
    )


def _candidate(
    output_shape: Triple, block: Triple, cost: Cost, margin: Triple, room: Room
) -> Candidate:
    compute = _plus(block, margin)
    count = _count(output_shape, block)
    need = cost.chosen(compute)
    waste = cost.waste(output_shape, count, compute)
    return Candidate(block, count, need.bytes(room), count * need.seconds, waste)


def _shapes(
    output_shape: Triple, cost: Cost, unit: Triple | None, margin: Triple
) -> Iterator[Triple]:
    """Blocks, the largest first, of which none has both more work and more memory than another;
    each a good deal smaller than the one before."""
    axes = [_lengths(n, unit[axis] if unit else None) for axis, n in enumerate(output_shape)]
    found = []
    for combination in itertools.product(*axes):
        block = triple(combination)
        compute = _plus(block, margin)
        total = _count(output_shape, block) * cost.work(compute)
        found.append((cost.size(compute), total, block))
    found.sort(key=lambda one: (one[0], one[1]))
    ladder: list[tuple[int, Triple]] = []
    least = math.inf
    for size, total, block in found:
        if total < least:
            least = total
            ladder.append((size, block))
    above = math.inf
    for size, block in reversed(ladder):
        if size * _APART <= above or (size, block) == ladder[0]:
            above = size
            yield block


def _plus(block: Triple, margin: Triple) -> Triple:
    return triple(b + m for b, m in zip(block, margin, strict=True))


def _count(output_shape: Triple, block: Triple) -> int:
    return math.prod(math.ceil(n / b) for n, b in zip(output_shape, block, strict=True))


def chunks_of(block: Triple, output_shape: Triple) -> Triple:
    """Chunks of about 64 voxels per axis of which `block` holds whole ones; longer in y and x where
    it is thin."""
    long = THIN_CHUNK_EDGE if block[0] < GRAIN else CHUNK_EDGE
    return triple(
        math.ceil(b / math.ceil(b / edge)) if b >= n else _divisor(b, edge)
        for b, n, edge in zip(block, output_shape, (CHUNK_EDGE, long, long), strict=True)
    )


def _divisor(length: int, edge: int) -> int:
    """The largest divisor that is at most `edge`; for an awkward length (a large prime) itself."""
    divisor = max(d for d in range(1, min(length, edge) + 1) if length % d == 0)
    return divisor if divisor >= min(length, GRAIN) else length


def _lengths(length: int, unit: int | None) -> list[int]:
    """Block lengths to try along an axis of `length` voxels, descending: even cuts into 1, 2, .."""
    found: dict[int, None] = {length: None}
    count = 2
    while True:
        part = math.ceil(length / count)
        if unit:
            block = unit * math.ceil(part / unit)
        elif part < GRAIN:
            return [*found, *(n for n in (4, 2, 1) if n < length)]
        else:
            pieces = math.ceil(part / CHUNK_EDGE)
            block = pieces * GRAIN * math.ceil(part / (pieces * GRAIN))
        if block < length:
            found[block] = None
        if unit and part <= unit:
            return list(found)
        count += max(1, count // 4)
