"""Choosing the block and chunk shapes of a prediction.  Pure.

A larger block computes fewer voxels twice (its halo), but takes more memory and leaves fewer blocks
to share among threads.  The choice depends on the network, the volume and the memory limit only,
never on how many threads or workers there happen to be: the block decides how sums are ordered, and
the same prediction shall give the same bits everywhere.
"""

import itertools
import math
from functools import lru_cache

from znn_dask.inference.blocks import PredictionError, Triple, triple
from znn_dask.network import Network
from znn_dask.taskgraph import Arithmetic
from znn_dask.taskgraph.cost import spectrum_bytes
from znn_dask.taskgraph.layers import compile_layers

# What one block may take where the user says nothing: fits every thread of a usual machine.
DEFAULT_BLOCK_BYTES = 1 << 30
# Threads that the choice assumes; see above for why it is a constant.
NOMINAL_THREADS = 8
CHUNK_EDGE = 64
# Shapes are rounded up to this where an axis is cut: transforms and chunks of odd sizes are slow.
GRAIN = 8
# Memory of a forward pass over that of its maps, most of it spectra. Growth of the process in one
# run each: 1.2 to 2.6 for six passes of 38 MiB and more; a 12 MiB one took 4 times its maps.
MAP_FACTOR = 2.6


class Cost:
    """Work and memory of one forward pass of `network`, as a function of its output size.

    passes: forward passes whose results one block adds up (test-time augmentation)
    """

    def __init__(self, network: Network, passes: int = 1) -> None:
        self.network = network
        self.passes = passes
        self._channels = {node.name: node.size for node in network.nodes}

    @lru_cache(maxsize=4096)  # noqa: B019 - lives as long as one call of predict
    def _lengths(self, length: int) -> dict[str, Triple]:
        return self.network.sizes((length, length, length))

    def maps(self, output_size: Triple) -> dict[str, int]:
        """Values (voxels times channels) in each node group's map."""
        lengths = [self._lengths(n) for n in output_size]
        return {
            name: channels * math.prod(lengths[axis][name][axis] for axis in range(3))
            for name, channels in self._channels.items()
        }

    def work(self, output_size: Triple) -> float:
        """Relative time of one block: channel products of convolutions, and passes over maps."""
        maps = self.maps(output_size)
        products = sum(maps[e.output] * self._channels[e.input] for e in self.network.conv_edges)
        return self.passes * (products + 20.0 * sum(maps.values()))

    def bytes(self, output_size: Triple) -> int:
        """Memory of one block: maps with their spectra, the inputs as read, and the result.

        All maps count and not only those alive at a time, because the pool of freed memory keeps
        what each layer needs for the next block.
        """
        maps = self.maps(output_size)
        inputs = sum(maps[node.name] for node in self.network.inputs)
        results = sum(maps[node.name] for node in self.network.outputs)
        # float32; results: softmaxed, channels first, and the sums over flips.
        values = MAP_FACTOR * sum(maps.values()) + inputs + (2 if self.passes == 1 else 4) * results
        return int(4 * values)

    def shared_bytes(self, arithmetic: Arithmetic) -> int:
        """Memory that all blocks of a process share: the kernel spectra."""
        layers = compile_layers(self.network, arithmetic)
        return sum(spectrum_bytes(layers, edge.name) for edge in self.network.conv_edges)


def choose(
    output_shape: Triple,
    cost: Cost,
    limit: int = DEFAULT_BLOCK_BYTES,
    unit: Triple | None = None,
    margin: Triple = (0, 0, 0),
) -> tuple[Triple, Triple]:
    """(chunk shape, block shape) with the least work for the whole volume within `limit` bytes.

    unit: chunk shape if it is already decided.
    Raises PredictionError when even the smallest block does not fit.
    """
    axes = [_candidates(n, unit[axis] if unit else None) for axis, n in enumerate(output_shape)]
    best: tuple[float, Triple] | None = None
    least: tuple[int, Triple] | None = None
    for combination in itertools.product(*axes):
        block = triple(combination)
        compute = triple(b + m for b, m in zip(block, margin, strict=True))
        need = cost.bytes(compute)
        if least is None or need < least[0]:
            least = (need, block)
        if need > limit:
            continue
        count = math.prod(math.ceil(n / b) for n, b in zip(output_shape, block, strict=True))
        total = math.ceil(count / NOMINAL_THREADS) * cost.work(compute)
        # Of equal ones the largest: candidates come in descending order.
        if best is None or total < best[0]:
            best = (total, block)
    if best is None:
        assert least is not None
        raise PredictionError(
            f"the smallest block {least[1]} needs {mib(least[0])} but a block may take "
            f"{mib(limit)}: raise memory_limit, or give smaller chunks"
        )
    block = best[1]
    return unit or chunks_of(block, output_shape), block


def chunks_of(block: Triple, output_shape: Triple) -> Triple:
    """Chunks of at most about 64 voxels per axis of which `block` holds whole ones."""
    return triple(
        math.ceil(b / _pieces(b)) if b >= n else _divisor(b)
        for b, n in zip(block, output_shape, strict=True)
    )


def mib(size: int) -> str:
    """`1234 MiB`."""
    return f"{size / 2**20:.0f} MiB"


def _pieces(length: int) -> int:
    return math.ceil(length / CHUNK_EDGE)


def _divisor(length: int) -> int:
    """The largest divisor that is at most 64; for an awkward length (a large prime) itself."""
    divisor = max(d for d in range(1, min(length, CHUNK_EDGE) + 1) if length % d == 0)
    return divisor if divisor >= min(length, GRAIN) else length


def _candidates(length: int, unit: int | None) -> list[int]:
    """Block lengths to try along an axis of `length` voxels, descending: even cuts into 1, 2, .."""
    found: dict[int, None] = {length: None}
    count = 2
    while True:
        part = math.ceil(length / count)
        if unit:
            block = unit * math.ceil(part / unit)
        else:
            pieces = _pieces(part)
            block = pieces * GRAIN * math.ceil(part / (pieces * GRAIN))
        if block < length:
            found[block] = None
        if part <= (unit or GRAIN):
            return list(found)
        count += max(1, count // 4)
