"""Operations that a network must do, against counts made another way."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from roofline import Peaks, Work, convolution_work, measure_peaks, transform_operations, work_of

from znn_dask.kernels.convolution import make_convolution
from znn_dask.network import Network
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.layers import compile_layers

edges = st.lists(st.integers(2, 8), min_size=1, max_size=3)


@given(edges)
def test_a_whole_real_transform_takes_half_of_a_complex_one(sizes: list[int]):
    """2.5 n log2 n for all points, but for the middle and last frequencies, made in full."""
    n = math.prod(sizes)
    counted = transform_operations(sizes, sizes)
    assert counted >= 2.5 * n * math.log2(n) * (1 - 1e-12)
    assert counted <= 2.5 * n * math.log2(n) * (1 + 2 / sizes[-1])


def test_lines_of_zeros_are_not_transformed():
    # 3 of 8 x 3 of 8 real lines; 5 x 3 complex ones along y; 5 x 8 along z.
    real, line = 2.5 * 8 * 3, 5 * 8 * 3
    assert transform_operations((8, 8, 8), (3, 3, 3)) == 9 * real + 15 * line + 40 * line


def test_direct_convolution_by_its_loops():
    conv = make_convolution("direct", (4, 5, 6), (2, 3, 3), channels=(2, 3))
    multiply_adds = sum(
        1 for _output in range(3 * 3 * 4) for _tap in range(2 * 3 * 3) for _pair in range(2 * 3)
    )
    assert convolution_work(conv, training=False) == Work(direct=2 * multiply_adds)
    assert convolution_work(conv) == Work(direct=6 * multiply_adds)
    assert convolution_work(conv, input_gradient=False) == Work(direct=4 * multiply_adds)


def test_products_of_spectra_by_frequencies_and_tiles():
    # 6 outputs in tiles of 8 - 3 + 1, at dilation 2 on two sub-grids per axis
    conv = make_convolution("tiled", (16, 16, 16), (3, 3, 3), (2, 2, 2), (4, 5), tile=(8, 8, 8))
    found = convolution_work(conv, training=False)
    assert found.products == 6 * (8 * 8 * 5) * 2**3 * 4 * 5
    whole, wanted = (transform_operations((8,) * 3, (n,) * 3) for n in (8, 6))
    assert found.transforms == pytest.approx(2**3 * (4 * whole + 5 * wanted))


def test_a_network_is_the_sum_of_its_convolutions():
    network = Network().input().conv("c1", 4, (3, 3, 3)).conv("c2", 2, (5, 5, 5))
    layers = compile_layers(network, choose_arithmetic(network, (8, 8, 8)))
    first, second = (layers.convolutions[name] for name in ("c1", "c2"))
    expected = convolution_work(first, input_gradient=False) + convolution_work(second)
    assert work_of(layers) == expected
    assert work_of(layers).seconds(Peaks(1, 1.0, 1.0)) == pytest.approx(
        expected.direct + expected.products + expected.transforms
    )


def test_peaks_are_those_of_a_processor():
    peaks = measure_peaks(1)
    assert 1e8 < peaks.transform < 1e13
    assert 1e8 < peaks.sgemm < 1e13
