"""Convolution by FFT of whole maps, as ZNN does it, by FFTW.

A dilation s makes s interleaved sub-grids (phases) along its axis, on each of which the convolution
is dense. A map is padded with zeros to (edge * s) voxels per axis and read as (edge, s); an axis
along which the kernel has size 1 is not transformed: each of its voxels is a phase. Products of a
pass are matrix products per frequency, over the phases P::

    input X (P, C)    kernels W (C, K)    gradient G (P, K)
    forward X W       input gradient G W*^T       kernel gradient X*^T G

Outputs are positions k-1 .. edge of the cyclic convolution; what wraps around falls on the
positions before. G is of the output gradient at these same positions and zeros before them, so the
gradients come out in place.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from znn_dask.kernels.fft import irfft, rfft
from znn_dask.kernels.geometry import AxisTiles, Box, Triple, whole
from znn_dask.kernels.memory import aligned_copy, empty, zeros
from znn_dask.kernels.shape import ConvolutionShape
from znn_dask.kernels.tiles import TileGrid, whole_map_tile


@dataclass(frozen=True)
class WholeMap(ConvolutionShape):
    """FFT convolution of the map as a single tile; see `convolution.Convolution`."""

    @property
    def transforms(self) -> bool:
        return True

    @property
    def signature(self) -> Hashable:
        """Products and gradient spectra depend on the map, the transform and the crop."""
        return ("fft", self.grid.axes, self.channels[1], self.dtype.char)

    @cached_property
    def grid(self) -> TileGrid:
        """One tile of every phase."""
        tile = whole_map_tile(self.output_size, self.kernel, self.dilation)
        z, y, x = (
            AxisTiles(n, k, n if k == 1 else s, t)
            for n, k, s, t in zip(self.output_size, self.kernel, self.dilation, tile, strict=True)
        )
        return TileGrid((z, y, x))

    @cached_property
    def tile(self) -> Triple:
        """Points of a transform along each axis."""
        z, y, x = (axis.edge for axis in self.grid.axes)
        return (z, y, x)

    @cached_property
    def phases(self) -> Triple:
        """Sub-grids along each axis, those without outputs left out."""
        z, y, x = (axis.phases for axis in self.grid.axes)
        return (z, y, x)

    @cached_property
    def frequencies(self) -> Triple:
        """Edges of a spectrum: those of the tile, the last transformed axis halved."""
        sizes = list(self.tile)
        sizes[self._transformed[-1]] = sizes[self._transformed[-1]] // 2 + 1
        return (sizes[0], sizes[1], sizes[2])

    def rows(self) -> tuple[int, int]:
        return (0, self.output_size[0])

    # ---- spectra (fz, fy, fx, phase, channel), those of kernels (fz, fy, fx, in, out)

    def allocate_input_spectrum(self, block: Box | None = None) -> np.ndarray:
        self.grid.check(block or whole(self.output_size))
        return self._spectrum(math.prod(self.phases), self.channels[0])

    def allocate_gradient_spectrum(self) -> np.ndarray:
        return self._spectrum(math.prod(self.phases), self.channels[1])

    def allocate_kernel_spectrum(self) -> np.ndarray:
        return self._spectrum(*self.channels)

    def input_spectrum(self, x: np.ndarray, block: Box, out: np.ndarray) -> None:
        self.grid.check(block)
        self._transform(x, whole(self.input_size), out)

    def gradient_spectrum(self, g: np.ndarray, block: Box, out: np.ndarray) -> None:
        self.grid.check(block)
        self._transform(g, self._outputs, out)

    def kernel_spectrum(self, w: np.ndarray, channels: slice, out: np.ndarray) -> None:
        # The only place where a forward pass is divided by the number of points. Input channels one
        # by one: little scratch, and the bits do not depend on their slices.
        scale = self.dtype.type(1 / math.prod(self.tile))
        padded = zeros((*self.tile, self.channels[1]), self.dtype)
        for c in range(channels.start, channels.stop):
            np.multiply(w[:, :, :, c], scale, out=padded[whole(self.kernel)])
            rfft(padded, out[:, :, :, c], self._transformed)

    # ---- products

    def forward(
        self, X: np.ndarray, W: np.ndarray, block: Box, accumulate: np.ndarray | None = None
    ) -> np.ndarray:
        self.grid.check(block)
        result = self.allocate_gradient_spectrum()
        np.matmul(X, W, out=result)
        if accumulate is None:
            return result
        accumulate += result
        return accumulate

    def output(self, product: np.ndarray, block: Box) -> np.ndarray:
        self.grid.check(block)
        return self._inverse(product, self._outputs)

    def input_gradient(self, G: np.ndarray, W: np.ndarray, block: Box) -> np.ndarray:
        self.grid.check(block)
        result = self.allocate_input_spectrum()
        # G W*^T = (G* W^T)*: there are fewer gradients than kernels to conjugate.
        np.matmul(_conjugate(G), W.swapaxes(3, 4), out=result)
        np.conjugate(result, out=result)
        return self._inverse(result, whole(self.input_size))

    def kernel_gradient(self, X: np.ndarray, G: np.ndarray, channels: slice) -> np.ndarray:
        inputs, outputs = channels.stop - channels.start, self.channels[1]
        result = self._spectrum(inputs, outputs)
        np.matmul(_conjugate(X[..., channels]).swapaxes(3, 4), G, out=result)
        dw = empty((*self.kernel, inputs, outputs), self.dtype)
        points = empty((*self.tile, outputs), self.dtype)
        scale = self.dtype.type(1 / math.prod(self.tile))
        for c in range(inputs):
            irfft(result[:, :, :, c], points, self._transformed)
            np.multiply(points[whole(self.kernel)], scale, out=dw[:, :, :, c])
        return dw

    # ---- maps, padded and read as phases

    def _transform(self, values: np.ndarray, box: Box, out: np.ndarray) -> None:
        """Spectra of a map that holds `values` in `box` and zeros elsewhere."""
        padded = zeros(self._padded_shape(values.shape[3]), self.dtype)
        padded[box] = values
        rfft(self._by_phase(padded), self._spectra_by_phase(out), self._transformed)

    def _inverse(self, spectra: np.ndarray, box: Box) -> np.ndarray:
        """`box` of the map that has these spectra, which are destroyed."""
        padded = zeros(self._padded_shape(spectra.shape[4]), self.dtype)
        irfft(self._spectra_by_phase(spectra), self._by_phase(padded), self._transformed)
        return aligned_copy(padded[box])

    @property
    def _outputs(self) -> Box:
        """Where the outputs lie in the padded map."""
        z, y, x = (
            slice((axis.kernel - 1) * axis.dilation, (axis.kernel - 1) * axis.dilation + axis.size)
            for axis in self.grid.axes
        )
        return (z, y, x)

    def _padded_shape(self, channels: int) -> tuple[int, ...]:
        return (*(axis.edge * axis.dilation for axis in self.grid.axes), channels)

    def _by_phase(self, padded: np.ndarray) -> np.ndarray:
        """View (positions z, y, x, phases z, y, x, channel) of a padded map."""
        split = [edge for axis in self.grid.axes for edge in (axis.edge, axis.dilation)]
        z, y, x = (slice(0, phases) for phases in self.phases)
        by_phase = padded.reshape(*split, -1).transpose(0, 2, 4, 1, 3, 5, 6)
        return by_phase[:, :, :, z, y, x]

    def _spectra_by_phase(self, spectra: np.ndarray) -> np.ndarray:
        return spectra.reshape(*self.frequencies, *self.phases, -1)

    @cached_property
    def _transformed(self) -> tuple[int, ...]:
        return tuple(a for a in range(3) if self.kernel[a] > 1)

    def _spectrum(self, rows: int, columns: int) -> np.ndarray:
        dtype = np.complex64 if self.dtype == np.float32 else np.complex128
        return empty((*self.frequencies, rows, columns), dtype)


def _conjugate(array: np.ndarray) -> np.ndarray:
    return np.conjugate(array, out=empty(array.shape, array.dtype))
