"""Direct convolution for few channels, on copies of the maps in planes.

The loops are in `narrow_code`, and in `lane_sums` those whose lanes are added at the end.

A plane's lines follow each other at one pitch, that of the longer map, so that a tap is a shift of
the flat index within planes. `correlate` gives the very bits of the loops for many channels.
"""

import math

import numpy as np

from znn_dask.kernels import lane_sums, narrow_code
from znn_dask.kernels.geometry import Triple
from znn_dask.kernels.memory import empty, steps, zeros

FEW = 8
"""Channels from which on lanes along them are filled well enough."""

_PRODUCTS = 12  # sums of `product` that are made together

# Of one chunk of a kernel gradient: its maps should stay in the first-level cache.
_CHUNK_BYTES = 1 << 14


def suits(channels: int, kernel: Triple, size: Triple, dtype: np.dtype[np.floating]) -> bool:
    """Whether maps of `size` with so few channels are better made here."""
    return (
        channels < FEW
        and math.prod(kernel) > 1
        and size[1] * size[2] >= narrow_code.voxel_lanes(dtype)
    )


def suits_product(inputs: int, outputs: int, kernel: Triple) -> bool:
    """Whether voxels of `inputs` channels are better multiplied with lanes along these."""
    return kernel == (1, 1, 1) and outputs < FEW and inputs >= FEW * outputs


def correlate(
    x: np.ndarray,
    w: np.ndarray,
    size: Triple,
    dilation: Triple,
    *,
    full: bool,
    by_planes: bool,
) -> np.ndarray:
    """y[p] = sum_d x[p + d s - low] w[d] of `size`, for w (kz, ky, kx, from, to).

    low is zero, or the kernel's extent where x is `full`y covered: then there are zeros around it.
    `by_planes`: each plane of taps is summed by itself and then added.
    """
    inputs, outputs = w.shape[3:]
    extent = [(k - 1) * s for k, s in zip(w.shape[:3], dilation, strict=True)]
    lz, ly, lx = extent if full else (0, 0, 0)
    nz, ny, nx = x.shape[:3]
    pitch = max(nx, size[2])  # zeros at the end of one line are those before the next
    count = (size[1] - 1) * pitch + size[2]
    lanes = narrow_code.voxel_lanes(x.dtype)
    most = min(narrow_code.most_vectors(outputs), count // lanes)
    vectors = -(-count // lanes)
    block = min(count // lanes, -(-vectors // -(-vectors // most)))  # blocks as equal as possible
    planes = _planes(x, (ly, lx), pitch, (ny + 2 * ly) * pitch, lx)
    y = empty((size[0], size[1], pitch, outputs), x.dtype)
    w_steps = steps(w)
    run = narrow_code.correlate(
        x.dtype, (w_steps[3], w_steps[4]), inputs, outputs, block, by_planes
    )
    item = x.itemsize
    integers = (
        *(size[0], count, *w.shape[:3]),
        *(lz, ly, lz + nz, ly + ny),
        *(*dilation, pitch),
        *(planes.strides[0] // item, planes.strides[1] // item),
        *(y.strides[0] // item, *w_steps[:3]),
    )
    start = planes.ctypes.data - lz * planes.strides[1]
    run.given(integers)(start, w.ctypes.data, y.ctypes.data)
    return y if pitch == size[2] else y[:, :, : size[2]].copy()


def kernel_gradient(x: np.ndarray, g: np.ndarray, kernel: Triple, dilation: Triple) -> np.ndarray:
    """dw (kz, ky, kx, in, out) of maps x and g (z, y, x, channel)."""
    nz, ny, nx = g.shape[:3]
    inputs, outputs = x.shape[3], g.shape[3]
    pitch, lanes = x.shape[2], lane_sums.summed_lanes(x.dtype)
    count = -(-((ny - 1) * pitch + nx) // lanes) * lanes
    xs = _planes(x, (0, 0), pitch, x.shape[1] * pitch, lanes)
    gs = _planes(g, (0, 0), pitch, count)
    pairs = inputs * outputs
    total = zeros((math.prod(kernel) * pairs, lanes), x.dtype)
    dw = empty((*kernel, inputs, outputs), x.dtype)
    span = max(lanes, _CHUNK_BYTES // (x.itemsize * (inputs + outputs)) // lanes * lanes)
    run = lane_sums.kernel_gradient(x.dtype, inputs, outputs)
    item = x.itemsize
    integers = (
        *(nz, count, max(1, span // count), min(span, count)),
        *(*kernel, *dilation, pitch),
        *(xs.strides[0] // item, xs.strides[1] // item),
        *(gs.strides[0] // item, gs.strides[1] // item),
    )
    run.given(integers)(*(array.ctypes.data for array in (xs, gs, total, dw)))
    return dw


def product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """y (z, y, x, out) of x (z, y, x, in) and w (in, out), of many inputs and few outputs.

    The lanes of a vector of inputs are added at the end.
    """
    x = np.ascontiguousarray(x)
    voxels, (inputs, outputs) = math.prod(x.shape[:3]), w.shape
    y = empty((*x.shape[:3], outputs), x.dtype)
    block = max(1, min(voxels, _PRODUCTS // outputs))
    run = lane_sums.product(x.dtype, inputs, outputs, block)
    factors = np.ascontiguousarray(w.T)
    run.given((voxels,))(x.ctypes.data, factors.ctypes.data, y.ctypes.data)
    return y


def _planes(
    x: np.ndarray, first: tuple[int, int], pitch: int, plane: int, beyond: int = 0
) -> np.ndarray:
    """Planes (c, z, flat) of `plane` numbers, x from a line and column `first` on.

    Zeros are around it, and `beyond` of them or more after the last plane.
    """
    nz, ny, nx, channels = x.shape
    flat = zeros((channels * nz * plane + beyond,), x.dtype)
    integers = (channels, nz, ny, nx, *steps(x)[:3], nz * plane, plane, pitch)
    start = flat.ctypes.data + (first[0] * pitch + first[1]) * x.itemsize
    narrow_code.planes(x.dtype).given(integers)(x.ctypes.data, start)
    return flat[: channels * nz * plane].reshape(channels, nz, plane)
