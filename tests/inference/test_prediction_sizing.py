"""Choice of block and chunk shapes."""

import importlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_cases import boundary_network

from znn_dask.inference.blocks import BlockPlan, PredictionError
from znn_dask.inference.sizing import NOMINAL, Cost, candidates, choose, chunks_of, fastest
from znn_dask.network import Network
from znn_dask.taskgraph.timings import Timings


def best(shape, limit, cost=None):
    return fastest(candidates(shape, cost or Cost(boundary_network()), limit))


@settings(max_examples=10, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 300)] * 3), limit=st.sampled_from([2**24, 2**26, 2**30]))
def test_blocks_are_whole_chunks_that_fit_and_cover_the_volume(shape, limit):
    cost = Cost(boundary_network())
    unit, block = choose(shape, cost, limit)
    need = cost.chosen(block)
    assert need.room(NOMINAL.threads, limit) is not None
    assert need.bytes(need.fitting(NOMINAL.threads, limit)) <= limit
    for n, b, u in zip(shape, block, unit, strict=True):
        assert 1 <= b <= n
        assert b == n or b % u == 0
        assert u <= 256
    plan = BlockPlan(
        tuple(n + f - 1 for n, f in zip(shape, (3, 9, 9), strict=True)),
        {"input": (3, 9, 9)},
        "valid",
        (0, 0, 0),
        shape,
        unit,
        block,
    )
    assert math.prod(plan.grid) * math.prod(block) >= math.prod(shape)


@settings(max_examples=5, deadline=None)
@given(shape=st.tuples(*[st.integers(20, 300)] * 3))
def test_more_memory_is_never_slower(shape):
    cost = Cost(boundary_network())
    seconds = [best(shape, limit, cost).seconds for limit in (2**23, 2**25, 2**27, 2**29)]
    assert seconds == sorted(seconds, reverse=True)


def test_more_memory_wastes_less():
    found = [best((300, 300, 300), limit) for limit in (2**23, 2**25, 2**27)]
    volumes, wastes = ([math.prod(c.block) for c in found], [c.waste for c in found])
    assert volumes == sorted(volumes)
    assert wastes == sorted(wastes, reverse=True)
    assert 0 < wastes[-1] < wastes[0] < 1


def test_the_choice_knows_nothing_of_the_machine(monkeypatch):
    """Neither of threads nor of what was measured: the block decides the bits."""
    before = best((100, 200, 300), 2**25)
    monkeypatch.setattr("znn_dask.cluster.local.cores", lambda: 64)
    planning = importlib.import_module("znn_dask.taskgraph.plan")
    monkeypatch.setattr(planning, "calibrate", lambda: 99.0)
    monkeypatch.setattr(planning, "stored", Timings)
    assert best((100, 200, 300), 2**25) == before


def test_networks_of_single_slices_get_single_slices():
    """Along an axis without a halo nothing is gained by a longer block."""
    network = Network().input().conv("c1", 8, (1, 9, 9)).conv("c2", 8, (1, 9, 9), node="output")
    unit, block = choose((64, 400, 400), Cost(network), 2**25)
    assert block[0] < 8
    assert block[1] * block[2] > 64 * 64
    assert unit[1] <= 256


def test_given_chunks_are_kept():
    unit, block = choose((100, 200, 300), Cost(boundary_network()), 2**24, unit=(10, 48, 32))
    assert unit == (10, 48, 32)
    assert all(b % u == 0 for b, u in zip(block, unit, strict=True))


def test_too_little_memory_is_refused_with_both_sizes():
    with pytest.raises(PredictionError, match=r"needs \d+ MiB but blocks may take 0 MiB"):
        choose((100, 200, 300), Cost(boundary_network()), 1000)


def test_chunks_of_a_block():
    assert chunks_of((96, 128, 7), (100, 128, 1000)) == (48, 64, 7)
    assert chunks_of((97, 10, 10), (1000, 10, 10)) == (97, 10, 10)
    assert chunks_of((1, 1000, 512), (100, 1000, 1000)) == (1, 250, 256)


def test_averaging_counts_as_work():
    network = boundary_network()
    assert Cost(network, 8).work((8, 8, 8)) == 8 * Cost(network).work((8, 8, 8))
