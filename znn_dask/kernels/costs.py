"""Predicted seconds of convolutions on one core, and the choice of algorithm and tile by them.

A simple count that depends on shapes only, so that every machine makes the same choice: arithmetic
at the rates of one AVX-512 core plus memory traffic. Trust the ratios.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from znn_dask.kernels.convolution import Algorithm, Convolution
from znn_dask.kernels.direct import Direct
from znn_dask.kernels.geometry import Triple
from znn_dask.kernels.tiled import Tiled, whole_map_tile

_CODELETS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 20, 25, 32)
"""Edges that FFTW transforms in one straight piece of code, several times faster than others."""
_FFT = 13e9  # flop/s over those edges, counted as 2.5 N log2 N per real transform of N points
_SLOW_FFT = 4e9  # over others
_PRODUCT = 80e9  # flop/s of batched complex products
_REAL_PRODUCT = 100e9  # of the same as products of real pairs
_DIRECT = 90e9  # flop/s of real products
_MEMORY = 8e9  # bytes/s


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
        """With kernel spectra at hand."""
        return self.input_spectrum + self.product + self.output

    @property
    def update(self) -> float:
        """Forward, backward and new kernel spectra."""
        return (
            self.forward
            + self.kernel_spectrum
            + self.gradient_spectrum
            + self.input_gradient
            + self.kernel_gradient
        )


def cost(convolution: Convolution) -> Cost:
    """Predicted seconds of each step of `convolution` on one core."""
    if isinstance(convolution, Tiled):
        return _tiled_cost(convolution)
    assert isinstance(convolution, Direct)
    return _direct_cost(convolution)


def _direct_cost(conv: Direct) -> Cost:
    C, K = conv.channels
    item = conv.dtype.itemsize
    taps = math.prod(conv.kernel)
    voxels = math.prod(conv.output_size)
    matrix = 2 * voxels * taps * C * K / _DIRECT * item / 4
    gather = 2 * item * voxels * taps * C / _MEMORY if taps > 1 else 0.0
    return Cost(0.0, 0.0, matrix + gather, 0.0, 0.0, matrix + 1.5 * gather, matrix + gather)


def _tiled_cost(conv: Tiled) -> Cost:
    C, K = conv.channels
    item = conv.dtype.itemsize
    points = math.prod(conv.tile)
    tiles = conv.tiles
    frequencies = math.prod(conv.frequencies)
    taps = math.prod(conv.kernel)
    transform = 2.5 * points * tiles * sum(_line(edge) for edge in conv.tile) * item / 4
    traffic = (points * item + frequencies * 2 * item) * tiles / _MEMORY
    rate = _REAL_PRODUCT if conv.real_products else _PRODUCT
    matrix = 8 * frequencies * tiles * C * K / rate * item / 4
    copies = 2 if conv.real_products else 1
    spectra = 2 * item * frequencies / _MEMORY
    through = spectra * (tiles * (C + K) + copies * C * K)
    kernels = copies * spectra * C * K * 2 + 8 * frequencies * C * K * taps ** (1 / 3) / _PRODUCT
    per_channel = transform + traffic
    return Cost(
        input_spectrum=per_channel * C,
        kernel_spectrum=kernels,
        product=matrix + through,
        output=per_channel * K,
        gradient_spectrum=per_channel * K,
        input_gradient=matrix + through + per_channel * C,
        kernel_gradient=matrix + through + kernels,
    )


def _line(edge: int) -> float:
    """Seconds per point of a transform along one axis, over 2.5."""
    return math.log2(edge) / (_FFT if edge in _CODELETS else _SLOW_FFT)


def tile_candidates(output_size: Triple, kernel: Triple, dilation: Triple) -> tuple[Triple, ...]:
    """Tiles worth considering: fast transform edges per axis, up to the whole map."""
    choices = []
    whole_map = whole_map_tile(output_size, kernel, dilation)
    for n, k, s, edge in zip(output_size, kernel, dilation, whole_map, strict=True):
        needed = -(-n // s) + k - 1
        enough = min((e for e in _CODELETS if e >= needed), default=edge)
        smaller = (e for e in _CODELETS if k < e < enough and e >= 4)
        choices.append((1,) if k == 1 else (*smaller, enough))
    return tuple((z, y, x) for z, y, x in product(*choices))


def default_tile(
    output_size: Triple,
    kernel: Triple,
    dilation: Triple,
    channels: tuple[int, int],
) -> Triple:
    """The tile with the least predicted seconds per update."""
    return _best_tiled(output_size, kernel, dilation, channels).tile


def choose_algorithm(
    output_size: Triple,
    kernel: Triple,
    dilation: Triple,
    channels: tuple[int, int],
) -> tuple[Algorithm, Triple | None]:
    """(algorithm, tile) with the least predicted seconds per update; the tile is None if direct."""
    if kernel == (1, 1, 1):
        return ("direct", None)
    direct = Direct(output_size, kernel, dilation, channels, np.dtype(np.float32))
    tiled = _best_tiled(output_size, kernel, dilation, channels)
    if cost(direct).update <= cost(tiled).update:
        return ("direct", None)
    return ("tiled", tiled.tile)


def _best_tiled(
    output_size: Triple, kernel: Triple, dilation: Triple, channels: tuple[int, int]
) -> Tiled:
    candidates = [
        Tiled(output_size, kernel, dilation, channels, np.dtype(np.float32), tile)
        for tile in tile_candidates(output_size, kernel, dilation)
    ]
    return min(candidates, key=lambda conv: (_tiled_cost(conv).update, conv.tile))
