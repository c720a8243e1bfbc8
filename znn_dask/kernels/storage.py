"""Bytes that convolutions and pooling keep from one step to a later one, and the scratch that a
step takes while it runs. A test compares them with what the kernels really allocate."""

import math

from znn_dask.kernels.convolution import Convolution
from znn_dask.kernels.direct import CHUNK_BYTES
from znn_dask.kernels.geometry import Box, Triple, box_shape
from znn_dask.kernels.memory import ALIGNMENT
from znn_dask.kernels.pooling import EdgeKernel, MaxFilter, MaxPool
from znn_dask.kernels.tiled import Tiled

_PART_BYTES = 1 << 23  # of tiles that are transformed together
_PRODUCT_BYTES = 1 << 20  # of spectra between two products


def input_spectrum_bytes(convolution: Convolution, block: Box | None = None) -> int:
    """Of the spectrum of the whole input map, or of what `block` reads; 0 where it is the map."""
    if not isinstance(convolution, Tiled):
        return 0
    return _spectrum(convolution, _tiles(convolution, block), convolution.channels[0])


def gradient_spectrum_bytes(convolution: Convolution, block: Box | None = None) -> int:
    """Of the spectrum of the gradient of the whole output map, or of `block`."""
    if isinstance(convolution, Tiled):
        return _spectrum(convolution, _tiles(convolution, block), convolution.channels[1])
    return _map(convolution, convolution.output_size, 1)


def kernel_spectrum_bytes(convolution: Convolution) -> int:
    """Of the spectra of all kernels; 0 where they are used as they are."""
    if not isinstance(convolution, Tiled):
        return 0
    rows = (1 + convolution.real_products) * convolution.channels[0]
    return _spectrum(convolution, rows, convolution.channels[1])


def input_gradient_bytes(convolution: Convolution, block: Box) -> int:
    """Of the gradient that `block` sends back: whole tiles where there are tiles."""
    covered = box_shape(convolution.input_box(block))
    if isinstance(convolution, Tiled):
        grid = convolution.grid
        z, y, x = (
            axis.extent(n) for axis, n in zip(grid.axes, box_shape(grid.span(block)), strict=True)
        )
        covered = (z, y, x)
    return _map(convolution, covered, 0)


def forward_scratch(convolution: Convolution, block: Box) -> int:
    """While a block of the output is made; the block itself not counted."""
    if isinstance(convolution, Tiled):
        product = gradient_spectrum_bytes(convolution, block)
        return product + _part(convolution, block, 1)
    return CHUNK_BYTES


def backward_scratch(convolution: Convolution, block: Box) -> int:
    """While the gradient of a block goes back; neither spectrum nor result counted."""
    if isinstance(convolution, Tiled):
        product = input_spectrum_bytes(convolution, block)
        return product + max(_PRODUCT_BYTES, _part(convolution, block, 0))
    margins = tuple(
        n + (k - 1) * s
        for n, k, s in zip(
            box_shape(convolution.input_box(block)),
            convolution.kernel,
            convolution.dilation,
            strict=True,
        )
    )
    return CHUNK_BYTES + _map(convolution, (margins[0], margins[1], margins[2]), 1)


def kernel_gradient_scratch(convolution: Convolution, channels: slice) -> int:
    """While the gradient of a slice of input channels is made, itself counted."""
    kernel, count, itemsize = _slice(convolution, channels)
    if not isinstance(convolution, Tiled):
        return 2 * kernel * itemsize + CHUNK_BYTES
    (kz, ky, _), (fz, fy, fx) = convolution.kernel, convolution.frequencies
    along_z, along_y = (2 * itemsize * count * n for n in (kz * fy * fx, kz * ky * fx))
    row = 2 * itemsize * count * fz * fx
    rows = min(fy, max(1, _PRODUCT_BYTES // row))
    conjugate = 2 * itemsize * fz * fx * convolution.tiles * (channels.stop - channels.start)
    part = rows * (row * (4 if convolution.real_products else 1) + conjugate)
    return along_z + max(part, along_y + 3 * itemsize * kernel)


def kernel_spectrum_scratch(convolution: Convolution, channels: slice) -> int:
    """While the spectra of a slice of input channels are made."""
    kernel, count, itemsize = _slice(convolution, channels)
    if not isinstance(convolution, Tiled):
        return 0
    (kz, ky, _), (_, fy, fx) = convolution.kernel, convolution.frequencies
    complex_ = 2 * itemsize * (1 + convolution.real_products)
    return complex_ * (kernel + count * (kz * ky * fx + kz * fy * fx))


def residue_bytes(kernel: EdgeKernel, inputs: Triple, outputs: Triple, channels: int) -> int:
    """Of what the backward pass of a block needs: a byte per voxel and pass of a maximum; one per
    voxel for anything else that keeps something."""
    if not isinstance(kernel, MaxFilter | MaxPool):
        return math.prod(outputs) * channels
    total, shape = 0, list(inputs)
    for axis in range(3):
        shape[axis] = outputs[axis]
        total += (kernel.size[axis] > 1) * math.prod(shape) * channels
    return total


def _spectrum(convolution: Tiled, rows: int, columns: int) -> int:
    """Matrices (rows, columns) of complex numbers, an odd number of cache lines apart."""
    itemsize = 2 * convolution.dtype.itemsize
    lines = -(-rows * columns * itemsize // ALIGNMENT) | 1
    return math.prod(convolution.frequencies) * lines * ALIGNMENT


def _tiles(convolution: Tiled, block: Box | None) -> int:
    grid = convolution.grid
    return grid.count(grid.all if block is None else grid.span(block))


def _part(convolution: Tiled, block: Box, side: int) -> int:
    """Tiles transformed together: a part of the block's, at least one with all its phases."""
    tile = math.prod(convolution.tile) * math.prod(convolution.grid.phases)
    one = tile * convolution.channels[side] * convolution.dtype.itemsize
    tiles = math.prod(box_shape(convolution.grid.span(block)))
    return max(one, min(tiles * one, _PART_BYTES))


def _map(convolution: Convolution, size: Triple, side: int) -> int:
    return math.prod(size) * convolution.channels[side] * convolution.dtype.itemsize


def _slice(convolution: Convolution, channels: slice) -> Triple:
    """(numbers of a slice's kernels, kernels, bytes of a number)."""
    count = (channels.stop - channels.start) * convolution.channels[1]
    return math.prod(convolution.kernel) * count, count, convolution.dtype.itemsize
