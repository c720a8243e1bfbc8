"""Predicted seconds of convolutions on one core, and the choice of algorithm and tile by them.

A simple count that depends on shapes only, so that every machine makes the same choice: arithmetic
at the rates measured on one AVX-512 core, plus memory traffic. Trust the ratios.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from znn_dask.kernels.convolution import Algorithm, Convolution
from znn_dask.kernels.direct import Direct
from znn_dask.kernels.geometry import Triple
from znn_dask.kernels.tiled import Tiled
from znn_dask.kernels.tiles import whole_map_tile

# Flop/s of real transforms, counted as 2.5 N log2 N, by edge: those that FFTW transforms in one
# straight piece of code. Others are several times slower.
_FFT = {4: 9e9, 5: 9e9, 6: 11e9, 7: 11e9, 8: 13e9, 9: 11e9, 10: 14e9, 12: 15e9, 14: 12e9, 15: 12e9}
_FFT |= {16: 14e9, 20: 15e9, 25: 10e9, 32: 14e9}
_SLOW_FFT = 4e9
_PRODUCT = 130e9  # flop/s of complex matrix products per frequency, of large matrices
_REAL_PRODUCT = 160e9  # of the same as products of real pairs
_HALF_SPEED = 8  # a matrix with a side of this size reaches half of it
_DIRECT = 3.8e9  # products of a value and a vector added to sums in registers, per second
_VECTOR_BYTES = 64
_MEMORY = 8e9  # bytes/s
_CALL = 20e-6  # seconds of one numpy or FFTW call with the views it needs


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
    assert isinstance(convolution, Direct)
    return _direct_cost(convolution)


def tile_candidates(output_size: Triple, kernel: Triple, dilation: Triple) -> tuple[Triple, ...]:
    """Tiles worth considering: fast transform edges per axis, up to the whole map."""
    choices = []
    whole_map = whole_map_tile(output_size, kernel, dilation)
    for n, k, s, edge in zip(output_size, kernel, dilation, whole_map, strict=True):
        needed = -(-n // s) + k - 1
        enough = min((e for e in _FFT if e >= needed), default=edge)
        smaller = (e for e in _FFT if k < e < enough)
        choices.append((1,) if k == 1 else (*smaller, enough))
    return tuple((z, y, x) for z, y, x in product(*choices))


def default_tile(
    output_size: Triple,
    kernel: Triple,
    dilation: Triple,
    channels: tuple[int, int],
    *,
    training: bool = True,
    input_gradient: bool = True,
) -> Triple:
    """The tile with the least predicted seconds; arguments as in `choose_algorithm`.

    A 1x1x1 kernel is never transformed; its tile is (1, 1, 1).
    """
    candidates = (
        Tiled(output_size, kernel, dilation, channels, np.dtype(np.float32), tile)
        for tile in tile_candidates(output_size, kernel, dilation)
    )
    best = min(candidates, key=lambda conv: (_seconds(conv, training, input_gradient), conv.tile))
    return best.tile


def choose_algorithm(
    output_size: Triple,
    kernel: Triple,
    dilation: Triple,
    channels: tuple[int, int],
    *,
    training: bool = True,
    input_gradient: bool = True,
) -> tuple[Algorithm, Triple | None]:
    """(algorithm, tile) with the least predicted seconds; the tile is None if direct.

    Seconds are those of an update, or with training=False those of a forward pass. The first layer
    of a network needs no input gradient.
    """
    if kernel == (1, 1, 1):
        return ("direct", None)
    dtype = np.dtype(np.float32)
    tile = default_tile(
        output_size,
        kernel,
        dilation,
        channels,
        training=training,
        input_gradient=input_gradient,
    )
    direct = Direct(output_size, kernel, dilation, channels, dtype)
    tiled = Tiled(output_size, kernel, dilation, channels, dtype, tile)
    if _seconds(direct, training, input_gradient) <= _seconds(tiled, training, input_gradient):
        return ("direct", None)
    return ("tiled", tile)


def _seconds(conv: Convolution, training: bool, input_gradient: bool) -> float:
    predicted = cost(conv)
    return predicted.update(input_gradient) if training else predicted.forward


def _direct_cost(conv: Direct) -> Cost:
    C, K = conv.channels
    item = conv.dtype.itemsize
    taps = math.prod(conv.kernel)
    outputs, inputs = math.prod(conv.output_size), math.prod(conv.input_size)

    def seconds(rows: int, columns: int, nbytes: int) -> float:
        vectors = -(-columns * item // _VECTOR_BYTES)
        return outputs * taps * rows * vectors / _DIRECT + nbytes / _MEMORY + _CALL

    # what it writes; the gradient is copied before, and again where the input needs its zeros
    forward = seconds(C, K, item * outputs * K)
    backward = seconds(K, C, item * (inputs * C + 2 * outputs * K))
    gradient = seconds(C, K, item * taps * C * K)
    return Cost(0.0, 0.0, forward, 0.0, 0.0, 1.1 * backward, 1.1 * gradient)


def _tiled_cost(conv: Tiled) -> Cost:
    C, K = conv.channels
    item = conv.dtype.itemsize
    points, frequencies = math.prod(conv.tile), math.prod(conv.frequencies)
    copies = 2 if conv.real_products else 1

    lines = sum(math.log2(edge) / _FFT.get(edge, _SLOW_FFT) for edge in conv.tile)
    transform = 2.5 * points * lines * item / 4
    copying = points * item / _MEMORY
    map_fft = conv.tiles * (transform + copying)
    calls = 5 * _CALL

    rate = _REAL_PRODUCT if conv.real_products else _PRODUCT
    flops = 8 * frequencies * conv.tiles * C * K
    matrix = flops / (rate * _efficiency(C, K, conv.tiles)) * item / 4
    spectrum = 2 * item * frequencies / _MEMORY
    through = spectrum * (conv.tiles * (C + K) + copies * C * K)
    kernel_fft = 2 * copies * spectrum * C * K + 5 * _CALL
    return Cost(
        input_spectrum=map_fft * C + calls,
        kernel_spectrum=kernel_fft,
        product=matrix + through + _CALL,
        output=map_fft * K + calls,
        gradient_spectrum=map_fft * K + calls,
        input_gradient=1.2 * matrix
        + through
        + (map_fft + conv.tiles * copying) * C
        + calls
        + conv.tiles * _CALL / 5,
        kernel_gradient=1.2 * matrix + through + kernel_fft + conv.frequencies[1] * _CALL,
    )


def _efficiency(*sides: int) -> float:
    return math.prod(side / (side + _HALF_SPEED) for side in sides)
