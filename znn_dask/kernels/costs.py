"""Predicted seconds of convolutions on one core, and the choice of algorithm and tile by them.

A simple count that depends on shapes only, so that every machine makes the same choice: arithmetic
at the rates measured on one AVX-512 core, plus memory traffic. Trust the ratios.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from znn_dask.kernels import narrow
from znn_dask.kernels.convolution import Algorithm, Convolution
from znn_dask.kernels.direct import Direct
from znn_dask.kernels.geometry import Triple
from znn_dask.kernels.planes import STAGE_BYTES
from znn_dask.kernels.tiled import Tiled
from znn_dask.kernels.tiles import fast_size
from znn_dask.kernels.whole_map import WholeMap

EDGES = (4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32)
"""Tile edges worth considering: with small factors, and of few enough points for the registers."""

MOST_BLOCKS = 8
"""Blocks of a map, or of a kernel, that threads may share at most."""

_AS_GOOD = 0.01  # what the table may err by when two tiles are compared

# Fitted by benchmarks/cost_table.py: together they order the methods, which is what counts.
_REGISTER = 64  # bytes
_LINE = 1.87e-9  # seconds of a register of complex points in a transform, per n log2 n
_PRODUCT = 0.91e9  # products of a complex value and a register of complex columns, per second
_DIRECT = 3.5e9  # products of a value and a vector added to sums in registers, per second
_FFTW = 5e9  # floating-point operations/s of FFTW in float32, 2.5 n log2 n for n real points
_BLAS = 60e9  # floating-point operations/s of complex matrix products in float32
_MEMORY = 8e9  # bytes/s
_NEAR = 21.5e9  # bytes/s written to the second-level cache and read from there
_READ = 20e9  # bytes/s read from farther away
_GATHER = 22.5e-9  # seconds of a register gathered from as many places
_CALL = 72e-6  # seconds of a step besides: numpy calls, views, the start of a compiled loop


@dataclass(frozen=True)
class Cost:
    """Seconds of each step of the protocol over the whole map, all channels, on one core."""

    input_spectrum: float
    kernel_spectrum: float
    product: float
    output: float
    gradient_spectrum: float
    input_gradient: float
    kernel_gradient: float

    @property
    def forward(self) -> float:
        """A forward pass with kernel spectra at hand."""
        return self.input_spectrum + self.product + self.output

    def update(self, input_gradient: bool = True) -> float:
        """Forward, backward and new kernel spectra; without `input_gradient` for a first layer."""
        backward = self.gradient_spectrum + self.kernel_gradient + self.kernel_spectrum
        return self.forward + backward + (self.input_gradient if input_gradient else 0.0)


def cost(convolution: Convolution) -> Cost:
    """Predicted seconds of each step of `convolution` on one core."""
    if isinstance(convolution, Tiled):
        return _tiled_cost(convolution)
    if isinstance(convolution, WholeMap):
        return _whole_map_cost(convolution)
    assert isinstance(convolution, Direct)
    return _direct_cost(convolution)


def tile_candidates(output_size: Triple, kernel: Triple, dilation: Triple) -> tuple[Triple, ...]:
    """Tiles worth considering: edges per axis up to the whole map, as far as there are any."""
    choices = []
    for n, k, s in zip(output_size, kernel, dilation, strict=True):
        needed = -(-n // s) + k - 1
        enough = min((e for e in EDGES if e >= needed), default=EDGES[-1])
        edges = [e for e in EDGES if k < e <= enough]
        choices.append([1] if k == 1 else edges or [fast_size(max(k, min(needed, 2 * k)))])
    return tuple((z, y, x) for z, y, x in product(*choices))


def block_rows(convolution: Convolution) -> int:
    """Blocks that the map of `convolution` may be cut into for threads to share, as far as more
    are of any use."""
    axis, step = convolution.rows()
    return min(MOST_BLOCKS, -(-convolution.output_size[axis] // step))


def on_two_threads(convolution: Convolution, passes: float, kernels: float) -> float:
    """Seconds of a convolution on two threads, from those of its passes and of the work on its
    kernels on one: passes are shared by rows of tiles, and a single row leaves one thread idle."""
    return passes / min(block_rows(convolution), 2) + kernels / 2


def predicted(convolution: Convolution, *, training: bool, input_gradient: bool) -> float:
    """Counted seconds on two threads, of an update or with training=False of a forward pass."""
    counted = cost(convolution)
    if not training:
        return on_two_threads(convolution, counted.forward, 0.0)
    # Work on kernels is cut by channels, whatever the tile.
    kernels = counted.kernel_gradient + counted.kernel_spectrum
    return on_two_threads(convolution, counted.update(input_gradient) - kernels, kernels)


def default_tile(
    output_size: Triple,
    kernel: Triple,
    dilation: Triple,
    channels: tuple[int, int],
    *,
    training: bool = True,
    input_gradient: bool = True,
) -> Triple:
    """The tile with the least counted seconds on two threads; arguments as in `choose_algorithm`.

    A tile may be the fastest on one core and leave a single row, on which one thread works while
    the other waits. Among tiles as good as equal, the one with most rows. A 1x1x1 kernel is never
    transformed; its tile is (1, 1, 1).
    """
    judged = []
    for tile in tile_candidates(output_size, kernel, dilation):
        conv = Tiled(output_size, kernel, dilation, channels, np.dtype(np.float32), tile)
        seconds = predicted(conv, training=training, input_gradient=input_gradient)
        judged.append((seconds, block_rows(conv), tile))
    least = min(seconds for seconds, _, _ in judged)
    good = (each for each in judged if each[0] <= least * (1 + _AS_GOOD))
    return min(good, key=lambda each: (-each[1], each[0], each[2]))[2]


def choose_algorithm(
    output_size: Triple,
    kernel: Triple,
    dilation: Triple,
    channels: tuple[int, int],
    *,
    training: bool = True,
    input_gradient: bool = True,
) -> tuple[Algorithm, Triple | None]:
    """(algorithm, tile) with the least counted seconds on two threads; the tile is None if direct.

    Seconds are those of an update, or with training=False those of a forward pass. The first layer
    of a network needs no input gradient.
    """
    if kernel == (1, 1, 1):
        return ("direct", None)
    at = (output_size, kernel, dilation, channels)
    dtype = np.dtype(np.float32)
    tile = default_tile(*at, training=training, input_gradient=input_gradient)
    direct, tiled = (
        predicted(conv, training=training, input_gradient=input_gradient)
        for conv in (Direct(*at, dtype), Tiled(*at, dtype, tile))
    )
    return ("direct", None) if direct <= tiled else ("tiled", tile)


def _direct_cost(conv: Direct) -> Cost:
    C, K = conv.channels
    item = conv.dtype.itemsize
    taps = math.prod(conv.kernel)
    outputs, inputs = math.prod(conv.output_size), math.prod(conv.input_size)

    def seconds(rows: int, columns: int, nbytes: int) -> float:
        vectors = float(-(-columns * item // _REGISTER))
        if narrow.suits(columns, conv.kernel, conv.output_size, conv.dtype):  # all lanes filled
            vectors = columns * item / _REGISTER
            nbytes += 2 * item * (inputs * C + outputs * K)
        return outputs * taps * rows * vectors / _DIRECT + nbytes / _MEMORY + _CALL

    # what it writes; the gradient is copied before, and again where the input needs its zeros
    forward = seconds(C, K, item * outputs * K)
    backward = seconds(K, C, item * (inputs * C + 2 * outputs * K))
    gradient = seconds(C, K, item * taps * C * K)
    return Cost(0.0, 0.0, forward, 0.0, 0.0, 1.1 * backward, 1.1 * gradient)


def _whole_map_cost(conv: WholeMap) -> Cost:
    C, K = conv.channels
    wider = conv.dtype.itemsize / 4
    points, phases = math.prod(conv.tile), math.prod(conv.phases)
    frequencies = math.prod(conv.frequencies)

    def transform(count: int) -> float:
        return count * wider * 2.5 * points * math.log2(points) / _FFTW + _CALL

    of_kernels = 2 * conv.dtype.itemsize * frequencies * C * K / _MEMORY
    multiply = 8 * wider * frequencies * phases * C * K / _BLAS + of_kernels + _CALL
    return Cost(
        input_spectrum=transform(phases * C),
        kernel_spectrum=transform(C * K),
        product=multiply,
        output=transform(phases * K),
        gradient_spectrum=transform(phases * K),
        input_gradient=multiply + transform(phases * C),
        kernel_gradient=multiply + transform(C * K),
    )


def _tiled_cost(conv: Tiled) -> Cost:
    C, K = conv.channels
    item = conv.dtype.itemsize
    depth, b, c = (conv.grid.axes[a] for a in conv.axes)
    frequencies, tiles = conv.plane_frequencies, conv.plane_tiles
    inputs, along_c = depth.size + (depth.kernel - 1) * depth.dilation, c.edge // 2 + 1

    def registers(channels: int) -> int:
        return -(-channels * item // _REGISTER)

    def memory(rows: int, columns: int) -> float:
        """A half spectrum written or read."""
        return 2 * frequencies * rows * columns * item / _MEMORY

    def planes(count: int, tiles: int, lines: int, columns: int) -> float:
        """Transforms of `count` planes: `lines` real lines of each tile along c, then along b."""
        each = lines * _line(c.edge) / 2 + along_c * _line(b.edge)
        # Planes that do not fit in cache are written here and there.
        scattered = 2 * frequencies * tiles * columns * item > STAGE_BYTES
        written = memory(count * tiles, columns) * (2.5 if scattered else 1.0)
        return count * tiles * each * registers(columns) + written + _CALL

    def along_depth(columns: int) -> float:
        return frequencies * depth.tiles * depth.phases * _line(depth.edge) * registers(columns)

    def kernels(rows: int, columns: int) -> float:
        """Kernels transformed along b and depth, or products back."""
        written = 2 * (along_c * depth.kernel * b.edge + frequencies * depth.edge)
        lines = 2 * along_c * depth.kernel * b.kernel * C * K * item
        return written * rows * registers(columns) * _REGISTER / _NEAR + lines / _READ

    def multiply(columns: int, others: int) -> float:
        rows = frequencies * depth.edge * depth.tiles * depth.phases * tiles
        return rows * others * registers(columns) / _PRODUCT

    x_lines, y_lines = memory(inputs * tiles, C), memory(depth.size * tiles, K)
    adding = 2 * inputs * tiles * b.edge * c.edge * C * item / _MEMORY / 4
    points = depth.kernel * b.kernel
    lines = points * (_line(c.edge) * registers(C * K) / 2 + 2 * along_c * C * K * item / _MEMORY)
    gathers = 2 * along_c * points * K * registers(C) * _GATHER
    return Cost(
        input_spectrum=planes(inputs, tiles, b.edge, C),
        kernel_spectrum=lines + _CALL,
        product=along_depth(tiles * C) + along_depth(tiles * K) + kernels(C, K)
        + multiply(K, C) + x_lines + y_lines,
        output=planes(depth.size, tiles, b.outputs, K),
        gradient_spectrum=planes(depth.size, tiles, b.outputs, K),
        input_gradient=along_depth(tiles * C) + along_depth(tiles * K) + kernels(K, C) + gathers
        + multiply(C, K) + x_lines + y_lines
        + planes(inputs, tiles, b.edge, C) + adding,
        kernel_gradient=along_depth(tiles * C) + along_depth(tiles * K) + kernels(C, K)
        + multiply(K, C) + x_lines + y_lines + lines + _CALL,
    )  # fmt: skip


def _line(edge: int) -> float:
    return _LINE * edge * math.log2(edge + 1)
