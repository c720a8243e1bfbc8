"""The choice of algorithm and tile."""

import dataclasses

import numpy as np
import pytest

from znn_dask.kernels.convolution import make_convolution
from znn_dask.kernels.costs import choose_algorithm, cost, default_tile, tile_candidates

ONE = (1, 1, 1)


def test_large_filters_are_tiled_and_pointwise_ones_direct():
    assert choose_algorithm((32, 32, 32), (7, 7, 7), ONE, (40, 40))[0] == "tiled"
    assert choose_algorithm((1, 64, 64), (1, 9, 9), (1, 8, 8), (48, 48))[0] == "tiled"
    assert choose_algorithm((32, 32, 32), ONE, ONE, (40, 40)) == ("direct", None)
    assert choose_algorithm((1, 8, 8), (1, 3, 3), ONE, (2, 2))[0] == "direct"


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 5, 5), (9, 2, 1)])
@pytest.mark.parametrize("dilation", [ONE, (2, 3, 1)])
def test_candidates_fit_the_kernel(kernel, dilation):
    candidates = tile_candidates((20, 21, 70), kernel, dilation)
    assert len(set(candidates)) == len(candidates)
    for tile in candidates:
        assert all(t == 1 if k == 1 else t >= k for t, k in zip(tile, kernel, strict=True))
    assert default_tile((20, 21, 70), kernel, dilation, (8, 8)) in candidates


def test_one_output_voxel_has_a_tile():
    assert default_tile(ONE, (3, 3, 3), ONE, (4, 4)) == (4, 4, 4)


@pytest.mark.parametrize("algorithm", ["direct", "fft", "tiled"])
def test_cost_grows_with_channels_and_precision(algorithm):
    def seconds(channels, dtype):
        conv = make_convolution(
            algorithm, (20, 20, 20), (5, 5, 5), ONE, channels, dtype, (12, 12, 12)
        )
        steps = dataclasses.asdict(cost(conv))
        assert all(value >= 0 for value in steps.values())
        assert cost(conv).update() == pytest.approx(sum(steps.values()))
        assert cost(conv).update(input_gradient=False) < cost(conv).update()
        return cost(conv).update()

    base = seconds((8, 8), np.float32)
    assert seconds((16, 8), np.float32) > base
    assert seconds((8, 16), np.float32) > base
    assert seconds((8, 8), np.float64) > base
