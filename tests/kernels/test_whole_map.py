"""What sets the whole map apart: it is never cut, and phases without outputs cost nothing."""

import numpy as np
import pytest

from znn_dask.kernels.convolution import make_convolution
from znn_dask.kernels.geometry import blocks
from znn_dask.kernels.whole_map import WholeMap


def whole_map(size, kernel, dilation=(1, 1, 1), channels=(1, 1), dtype=np.float32) -> WholeMap:
    conv = make_convolution("fft", size, kernel, dilation, channels, dtype)
    assert isinstance(conv, WholeMap)
    return conv


def test_the_map_is_not_cut():
    conv = whole_map((20, 20, 20), (5, 5, 5))
    assert len(blocks(conv.output_size, *conv.rows(), 8)) == 1
    part = (slice(0, 8), slice(0, 16), slice(0, 16))
    X = conv.allocate_input_spectrum()
    with pytest.raises(ValueError, match=r"block 0:8 cuts .* cut at multiples of rows\(\)"):
        conv.allocate_input_spectrum(part)
    with pytest.raises(ValueError, match="block 0:8 cuts"):
        conv.forward(X, conv.allocate_kernel_spectrum(), part)


def test_an_axis_without_kernel_and_a_wide_dilation_are_not_transformed():
    conv = whole_map((6, 21, 90), (1, 3, 3), (1, 9, 40), channels=(2, 3))
    assert conv.output_size == (6, 3, 10)
    assert conv.tile == (1, 3, 3)
    assert conv.phases == (6, 3, 10)
    assert conv.allocate_input_spectrum().shape == (1, 3, 2, 180, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernel_spectra_do_not_depend_on_slices_of_channels(dtype):
    conv = whole_map((9, 10, 40), (3, 2, 5), channels=(7, 3), dtype=dtype)
    w = np.random.default_rng(0).standard_normal((3, 2, 5, 7, 3)).astype(dtype)
    at_once, in_slices = conv.allocate_kernel_spectrum(), conv.allocate_kernel_spectrum()
    conv.kernel_spectrum(w, slice(0, 7), at_once)
    for channels in (slice(4, 7), slice(0, 1), slice(1, 4)):
        conv.kernel_spectrum(w, channels, in_slices)
    np.testing.assert_array_equal(at_once, in_slices)
