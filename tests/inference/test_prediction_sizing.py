"""Choice of block and chunk shapes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_cases import boundary_network

from znn_dask.inference.blocks import PredictionError
from znn_dask.inference.sizing import Cost, choose, chunks_of


@settings(max_examples=30, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 400)] * 3), limit=st.sampled_from([2**22, 2**26, 2**30]))
def test_blocks_are_whole_chunks_and_fit(shape, limit):
    cost = Cost(boundary_network())
    unit, block = choose(shape, cost, limit)
    assert cost.bytes(block) <= limit
    for n, b, u in zip(shape, block, unit, strict=True):
        assert 1 <= b <= n
        assert b == n or b % u == 0
        assert u <= 64


def test_more_memory_means_larger_blocks():
    cost = Cost(boundary_network())
    volumes = []
    for limit in (2**22, 2**24, 2**26):
        _, (z, y, x) = choose((300, 300, 300), cost, limit)
        volumes.append(z * y * x)
    assert volumes == sorted(volumes)
    assert volumes[0] < volumes[-1]


def test_given_chunks_are_kept():
    unit, block = choose((100, 200, 300), Cost(boundary_network()), 2**22, unit=(10, 48, 32))
    assert unit == (10, 48, 32)
    assert all(b % u == 0 for b, u in zip(block, unit, strict=True))


def test_too_little_memory_is_refused_with_both_sizes():
    with pytest.raises(PredictionError, match=r"needs \d+ MiB but a block may take 0 MiB"):
        choose((100, 200, 300), Cost(boundary_network()), 1000)


def test_chunks_of_a_block():
    assert chunks_of((96, 128, 7), (100, 128, 1000)) == (48, 64, 7)
    assert chunks_of((97, 10, 10), (1000, 10, 10)) == (97, 10, 10)


def test_averaging_counts_as_work():
    network = boundary_network()
    assert Cost(network, 8).work((8, 8, 8)) == 8 * Cost(network).work((8, 8, 8))
