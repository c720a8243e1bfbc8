"""Which voxels of the maps a small output patch reads, against reading them one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.network import EdgeGroup, Network, NodeGroup
from znn_dask.network.fragments import computed_maps

small = st.integers(1, 3)


def chain(layers: list[tuple[int, int, int]]) -> Network:
    """Max-filters (window, stride) and convolutions in turn, all along x."""
    network = Network().input()
    for i, (kernel, window, stride) in enumerate(layers):
        network = network.conv(f"c{i}", 1, (1, 1, kernel))
        network = network.max_filter(f"p{i}", (1, 1, window), (1, 1, stride))
    return network.conv("last", 1, (1, 1, 3))


@settings(max_examples=50, deadline=None)
@given(
    layers=st.lists(st.tuples(small, st.integers(2, 3), small), min_size=1, max_size=3),
    patch=st.integers(1, 30),
)
def test_every_voxel_that_is_read_is_computed_and_fragments_are_whole(layers, patch) -> None:
    network = chain(layers)
    size = (1, 1, patch)
    every, read = (computed_maps(network, size, fragments) for fragments in (False, True))
    wanted = {network.outputs[0].name: np.arange(patch)}
    for edge in reversed(network.edges):
        dilation = every.dilations[edge.input][2]
        taps = np.arange(edge.size[2]) * dilation
        wanted[edge.input] = np.unique(wanted[edge.output][:, None] + taps)
    for name, positions in wanted.items():
        length, fragments = read.sizes[name][2], read.dilations[name][2]
        dilation = every.dilations[name][2]
        kept = np.arange(length) // fragments * dilation + np.arange(length) % fragments
        assert fragments == min(dilation, patch)
        assert set(positions) <= set(kept)
        assert kept[-1] == positions[-1] == every.sizes[name][2] - 1
        if all(window >= stride for _, window, stride in layers):  # no voxel between windows
            assert list(positions) == list(kept)


def test_a_patch_of_one_voxel_makes_max_filters_max_poolings() -> None:
    filters, pools = Network().input(), Network().input()
    for i in range(2):
        filters = filters.conv(f"c{i}", 2, 3).max_filter(f"p{i}", 2, 2)
        pools = pools.conv(f"c{i}", 2, 3).max_pool(f"p{i}", 2)
    filters, pools = filters.conv("last", 1, 3), pools.conv("last", 1, 3)
    read = computed_maps(filters, (1, 1, 1), fragments=True)
    assert read.sizes == pools.sizes((1, 1, 1))
    assert set(read.dilations.values()) == {(1, 1, 1)}


def test_a_patch_as_large_as_the_dilation_reads_every_voxel() -> None:
    network = chain([(3, 2, 2), (3, 2, 2)])
    for patch in (4, 5, 11):
        assert computed_maps(network, (1, 1, patch), True) == computed_maps(
            network, (1, 1, patch), False
        )


STRIDED = Network().input().conv("c", 2, 3, stride=2).conv("d", 1, 3)
CROPPED = Network().input().max_filter("p", 2, 2).crop("o", 1).conv("d", 1, 3)
THINNED = Network().input().max_filter("p", 1, 2).conv("d", 1, 3)
DENSE = Network(
    (
        NodeGroup("input", "input", 1),
        NodeGroup("n", "sum", 1, dense=True),
        NodeGroup("output", "sum", 1),
    ),
    (
        EdgeGroup("p", "max_filter", "input", "n", (2, 2, 2), (2, 2, 2)),
        EdgeGroup("c", "conv", "n", "output", (3, 3, 3), init="zero"),
    ),
)


@pytest.mark.parametrize("network", [STRIDED, CROPPED, THINNED, DENSE])
def test_what_does_not_read_whole_fragments_is_computed_everywhere(network: Network) -> None:
    size = (1, 1, 1)
    maps = computed_maps(network, size, fragments=True)
    assert maps == computed_maps(network, size, fragments=False)
    assert maps.sizes == network.sizes(size)
