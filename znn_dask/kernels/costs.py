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
from znn_dask.kernels.tiled import Tiled, fast_size, whole_map_tile

_FFT = 11e9  # flop/s, counted as 2.5 N log2 N per real transform of N points
_PRODUCT = 90e9  # flop/s of batched complex products
_DIRECT = 100e9  # flop/s of real products
_MEMORY = 8e9  # bytes/s
_EDGES = (8, 10, 12, 14, 16, 20, 24, 28, 32, 36, 40, 48)


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
    transform = 2.5 * points * math.log2(points) * tiles / _FFT * item / 4
    traffic = (points * item + frequencies * 2 * item) * tiles / _MEMORY
    matrix = 8 * frequencies * tiles * C * K / _PRODUCT * item / 4
    spectra = 2 * item * frequencies / _MEMORY
    through = spectra * (tiles * (C + K) + C * K)
    kernels = spectra * C * K * 2 + 8 * frequencies * C * K * taps ** (1 / 3) / _PRODUCT
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


def tile_candidates(output_size: Triple, kernel: Triple, dilation: Triple) -> tuple[Triple, ...]:
    """Tiles worth considering: good transform edges per axis, and the whole map."""
    choices = []
    for n, k, s, w in zip(
        output_size, kernel, dilation, whole_map_tile(output_size, kernel, dilation), strict=True
    ):
        dense = -(-n // s)
        fitting = {e for e in _EDGES if k <= e < w} if k > 1 else set()
        even = {fast_size(-(-dense // count) + k - 1) for count in (2, 3, 4)} if k > 1 else set()
        choices.append(sorted({w, *fitting, *(e for e in even if k < e < w)}))
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
