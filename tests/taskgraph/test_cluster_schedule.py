"""The cluster's simulation: bounds that hold for any cluster, and what must make it slower."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from znn_dask.taskgraph.cluster_schedule import Estimate, ReplicaCost, simulate_cluster
from znn_dask.taskgraph.machine import Machine
from znn_dask.taskgraph.plan import plan

FREE = Machine(0.0, 0.0, 0.0, 1e30, 0.0)
LINK = Machine(2e-5, 1e-3, 6e-3, 1.25e9, 1e-4)
COST = ReplicaCost(0.2, 0.4, 0.1, 4.0, 4_000_000, whole_steps=False)
sizes = st.integers(1, 12).flatmap(
    lambda slots: st.tuples(
        st.lists(st.integers(1, 4), min_size=slots, max_size=slots),
        st.lists(st.integers(1, 4), min_size=slots, max_size=slots),
        st.booleans(),
    )
)


@given(sizes)
def test_without_costs_in_between_a_step_is_the_work_of_the_slowest(
    given_sizes: tuple[list[int], list[int], bool],
):
    threads, patches, shares = given_sizes
    cost = replace(COST, whole_steps=shares)
    found = simulate_cluster(cost, threads, patches, FREE)
    assert found.step_seconds == pytest.approx(found.compute_seconds)


@given(sizes)
def test_no_step_is_shorter_than_its_work_and_what_it_moves(
    given_sizes: tuple[list[int], list[int], bool],
):
    threads, patches, shares = given_sizes
    cost = replace(COST, whole_steps=shares)
    found = simulate_cluster(cost, threads, patches, LINK)
    slots = len(threads)
    assert found.step_seconds >= found.compute_seconds - 1e-9
    if slots > 1:
        assert found.step_seconds >= found.granules * LINK.granule_seconds / 2
        assert found.moved_bytes >= 2 * (slots - 1) * cost.gradient_bytes
    slower = simulate_cluster(cost, threads, patches, replace(LINK, bytes_per_second=1e7))
    assert slower.step_seconds >= found.step_seconds - 1e-9


def test_two_workers_exchange_one_gradient_each_way():
    found = simulate_cluster(replace(COST, whole_steps=True), [1, 1], [1, 1], LINK)
    assert found.moved_bytes == 2 * COST.gradient_bytes
    assert found.granules == 5  # two shares, two updates, a report
    # A hop to the update, and one from it that new kernels fill.
    hop = LINK.hop_seconds + 2 * LINK.latency_seconds
    assert found.compute_seconds + hop < found.step_seconds < found.compute_seconds + 2 * hop


def test_large_clusters_exchange_in_a_few_levels():
    """A single worker that collected and sent everything would need 1024 transfers."""
    cost = replace(COST, gradient_bytes=12_500_000, whole_steps=True)  # 10 ms each
    machine = Machine(0.0, 0.0, 0.0, 1.25e9, 0.0)
    found = simulate_cluster(cost, [1] * 512, [1] * 512, machine)
    assert found.step_seconds - found.compute_seconds < 0.4


def test_five_hundred_workers_are_simulated_in_a_moment():
    began = time.process_time()
    simulate_cluster(replace(COST, whole_steps=True), [1] * 512, [1] * 512, LINK)
    assert time.process_time() - began < 5


def test_short_steps_stay_on_one_worker():
    """What a network takes decides how many workers are worth while."""
    import znn_dask as znn

    def width(channels: int) -> Estimate:
        net = znn.Network().input()
        for i in range(3):
            net = net.conv(f"c{i}", channels, (5, 5, 5))
        return Estimate(plan(net, (8, 8, 8), slowness=1.0), LINK)

    tiny, wide = width(2), width(40)
    assert tiny([1], [4]) < tiny([1, 1], [2, 2])
    assert wide([1], [4]) > wide([1, 1], [2, 2]) > wide([1] * 4, [1] * 4)
