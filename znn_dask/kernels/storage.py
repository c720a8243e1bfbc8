"""Bytes that convolutions and pooling keep from one step to a later one, and the scratch that a
step takes while it runs. Tests compare both with what is really allocated."""

import math
from collections.abc import Iterable

from znn_dask.kernels import lane_sums, narrow
from znn_dask.kernels.convolution import Convolution
from znn_dask.kernels.geometry import Box, Triple, box_shape
from znn_dask.kernels.memory import requested_bytes
from znn_dask.kernels.tiled import Tiled
from znn_dask.kernels.whole_map import WholeMap

# Tiles that are transformed together, at most.
_PART_BYTES = 1 << 23

# Machine code and what LLVM keeps of it (measured): once, and for each tiled and each direct
# convolution, which forward alone needs a part of.
_COMPILER_BYTES = 14_000_000
_TILED_CODE_BYTES = 4_500_000
_DIRECT_CODE_BYTES = 2_000_000
_FORWARD_SHARE = 0.4


def input_spectrum_bytes(convolution: Convolution, block: Box | None = None) -> int:
    """Of the spectrum of the whole input map, or of what `block` reads; 0 where it is the map."""
    if not convolution.transforms:
        return 0
    return requested_bytes(lambda: convolution.allocate_input_spectrum(block))


def gradient_spectrum_bytes(convolution: Convolution) -> int:
    """Of the spectrum of the gradient of the whole output map."""
    return requested_bytes(convolution.allocate_gradient_spectrum)


def kernel_spectrum_bytes(convolution: Convolution) -> int:
    """Of the spectra of all kernels; 0 where they are used as they are."""
    if not convolution.transforms:
        return 0
    return requested_bytes(convolution.allocate_kernel_spectrum)


def spectra_bytes(convolution: Convolution) -> int:
    """Of all spectra of a step: of kernels, input and gradient; 0 where there are none."""
    if not convolution.transforms:
        return 0
    maps = input_spectrum_bytes(convolution) + gradient_spectrum_bytes(convolution)
    return kernel_spectrum_bytes(convolution) + maps


def forward_product(convolution: Convolution, block: Box) -> int:
    """Of the product of spectra for a block of the output; 0 where it is the output."""
    if not convolution.transforms:
        return 0
    share = math.prod(box_shape(block)) / math.prod(convolution.output_size)
    return math.ceil(share * gradient_spectrum_bytes(convolution))


def forward_scratch(convolution: Convolution, block: Box) -> int:
    """While a block of the output is made; the block itself not counted."""
    if not convolution.transforms:
        inputs = box_shape(convolution.input_box(block))
        planes = _plane_bytes(convolution, inputs, convolution.channels[1])
        return _kernel_bytes(convolution) + sum(convolution.channels) * planes
    product = forward_product(convolution, block)
    if isinstance(convolution, WholeMap):  # as many points as spectra, of inputs or of outputs
        return max(input_spectrum_bytes(convolution), 2 * product)
    return product + min(product, _PART_BYTES) + _tiled_scratch(convolution)


def backward_scratch(convolution: Convolution, block: Box) -> int:
    """While the gradient of a block goes back; neither spectrum nor result counted."""
    if isinstance(convolution, WholeMap):  # points, or conjugate gradients, beside the product
        product = input_spectrum_bytes(convolution)
        return product + max(product, gradient_spectrum_bytes(convolution))
    if convolution.transforms:
        product = input_spectrum_bytes(convolution, block)
        return product + min(product, _PART_BYTES) + _tiled_scratch(convolution)
    inputs = box_shape(convolution.input_box(block))
    if planes := _plane_bytes(convolution, inputs, convolution.channels[0]):
        return sum(convolution.channels) * planes
    z, y, x = box_shape(block)
    lines = z * y * (x + 2 * (convolution.kernel[2] - 1) * convolution.dilation[2])
    padded = lines * convolution.channels[1] * convolution.dtype.itemsize
    return padded + _kernel_bytes(convolution)


def kernel_gradient_scratch(convolution: Convolution, channels: slice) -> int:
    """While the gradient of a slice of input channels is made, itself counted."""
    share = (channels.stop - channels.start) / convolution.channels[0]
    kernels = _kernel_bytes(convolution)
    outputs = convolution.channels[1]
    if planes := _plane_bytes(convolution, convolution.input_size, outputs):
        maps = channels.stop - channels.start + outputs
        sums = lane_sums.summed_lanes(convolution.dtype) * kernels
        return math.ceil(maps * planes + share * (sums + kernels))
    if isinstance(convolution, WholeMap):  # conjugate inputs, and the points of one input channel
        sums = kernel_spectrum_bytes(convolution)
        spectra = sums + input_spectrum_bytes(convolution)
        return math.ceil(share * (spectra + kernels) + sums / convolution.channels[0])
    sums = kernel_spectrum_bytes(convolution) if convolution.transforms else kernels
    return math.ceil(share * (sums + 2 * kernels + _tiled_scratch(convolution)))


def code_bytes(convolutions: Iterable[Convolution], *, training: bool) -> int:
    """Of the machine code that is compiled for them; those alike share it."""
    unlike = {
        (c.kernel, c.channels, c.tile if isinstance(c, Tiled) else None): isinstance(c, Tiled)
        for c in convolutions
        if not isinstance(c, WholeMap)
    }
    code = sum(_TILED_CODE_BYTES if tiled else _DIRECT_CODE_BYTES for tiled in unlike.values())
    return _COMPILER_BYTES + round(code * (1 if training else _FORWARD_SHARE))


def residue_bytes(outputs: Triple, channels: int) -> int:
    """Of what the backward pass of a block needs: a byte per voxel, which value was the maximum or
    whether it was dropped."""
    return math.prod(outputs) * channels


def _plane_bytes(convolution: Convolution, inputs: Triple, lanes: int) -> int:
    """Of one channel of a region of `inputs` or of its outputs, copied to planes; 0 if they are
    not, as the `lanes` channels are enough."""
    narrow_layer = narrow.suits(lanes, convolution.kernel, inputs, convolution.dtype)
    if convolution.transforms or not narrow_layer:
        return 0
    return math.prod(inputs) * convolution.dtype.itemsize


def _tiled_scratch(convolution: Convolution) -> int:
    return convolution.kernel_scratch if isinstance(convolution, Tiled) else 0


def _kernel_bytes(convolution: Convolution) -> int:
    numbers = math.prod(convolution.kernel) * math.prod(convolution.channels)
    return numbers * convolution.dtype.itemsize
