"""The shapes of a convolution: what every algorithm for it has in common."""

from dataclasses import dataclass

import numpy as np

from znn_dask.kernels.geometry import Box, Triple, box_shape, dilated_input, whole


@dataclass(frozen=True)
class ConvolutionShape:
    """A valid convolution with dilation, of maps (z, y, x, channel).

    Attributes
    ----------
    output_size, kernel, dilation
        Voxels (z, y, x).
    channels
        (input, output) channels.
    dtype
        float32 or float64.
    """

    output_size: Triple
    kernel: Triple
    dilation: Triple
    channels: tuple[int, int]
    dtype: np.dtype[np.floating]

    @property
    def input_size(self) -> Triple:
        """Voxels of the input map."""
        return box_shape(self.input_box(whole(self.output_size)))

    def input_box(self, block: Box) -> Box:
        """Region of the input map that the output region `block` reads."""
        return dilated_input(block, self.kernel, self.dilation)
