"""The predicted memory of a prediction, and how many patches and threads it lets in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_cases import boundary_network

from znn_dask.inference.blocks import PredictionError
from znn_dask.inference.need import Need, Room, run
from znn_dask.kernels.memory import SPARE_BYTES, SPARE_SHARE
from znn_dask.network import Network
from znn_dask.taskgraph import choose_arithmetic
from znn_dask.taskgraph.layers import compile_layers


def need_of(network: Network, size: tuple[int, int, int]) -> Need:
    return Need([compile_layers(network, choose_arithmetic(network, size, training=False))])


@pytest.fixture(scope="module")
def wide() -> Need:
    """Layers of several blocks each, transformed."""
    network = Network().input().conv("c1", 16, (5, 5, 5)).conv("c2", 16, (5, 5, 5), node="output")
    return need_of(network, (40, 40, 40))


@settings(max_examples=20, deadline=None)
@given(patches=st.integers(1, 4), threads=st.integers(1, 9))
def test_the_simulated_run_is_a_run(wide, patches, threads):
    spans = run(wide.tasks, Room(patches, threads))
    assert len(spans) == len({(s.step, s.name) for s in spans}) == patches * len(wide.tasks)
    ends = {(span.step, span.name): span.end for span in spans}
    needs = {task.id: task.needs for task in wide.tasks}
    for span in spans:
        before = [ends[span.step, need] for need in needs[span.name]]
        assert span.start >= max(before, default=0.0)
        assert sum(other.start <= span.start < other.end for other in spans) <= threads


def test_maps_are_counted_while_something_reads_them():
    """Three maps of which two are alive at a time, in one piece each, and scratch."""
    network = (
        Network()
        .input(size=1)
        .conv("a", 4, (1, 1, 1), "linear")
        .conv("b", 8, (1, 1, 1), "linear")
        .conv("c", 2, (1, 1, 1), "linear", node="output")
    )
    size = (4, 16, 16)
    need = need_of(network, size)
    assert all(len(blocks) == 1 for blocks in need.layers.blocks.values())
    voxels = 4 * 16 * 16 * 4
    most = (4 + 8 + 8) * voxels + 4 * 8 * 4  # the middle layer: its maps, its result, its kernels
    outside = 2 * (2 * 1 + 2 * 2) * voxels
    assert need.bytes(Room(1, 1)) == outside + round((1 + SPARE_SHARE) * most) + SPARE_BYTES


def test_more_threads_and_patches_take_more(wide):
    sizes = [wide.bytes(Room(1, threads)) for threads in (1, 2, 4)]
    assert sizes == sorted(sizes)
    assert wide.bytes(Room(2, 2)) >= wide.bytes(Room(1, 2))


def test_room_fits_and_uses_what_there_is(wide):
    least = wide.bytes(Room(1, 1))
    for memory in (least, 2 * least, 4 * least):
        room = wide.fitting(8, memory)
        assert wide.bytes(room) <= memory
    assert wide.fitting(8, 100 * least).threads == 8
    assert wide.fitting(8, least).threads < 8
    with pytest.raises(PredictionError, match="one block needs about"):
        wide.fitting(8, least - 1)


def test_a_network_without_cuts_gets_a_patch_for_each_thread():
    need = need_of(boundary_network(), (2, 4, 4))
    assert need.parallelism == 1
    assert need.room(3, 1 << 40) == Room(patches=4, threads=3)
