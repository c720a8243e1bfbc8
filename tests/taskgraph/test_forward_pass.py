"""The forward pass: the same bits in every form, and nothing kept that nothing reads."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from znn_dask.network import Network
from znn_dask.taskgraph import ForwardPass
from znn_dask.taskgraph import forward as module
from znn_dask.taskgraph.engine import Engine, TaskError

SIZE = (24, 24, 24)


def network() -> Network:
    """A max-filter, and a layer in several blocks."""
    return (
        Network()
        .input()
        .conv("c1", 16, (3, 3, 3), node="a")
        .max_filter("m", (2, 2, 2), (2, 2, 2))
        .conv("c2", 32, (3, 3, 3), "tanh")
        .conv("c3", 2, (1, 1, 1), "linear", node="output")
    )


def forward(net: Network, algorithm: str = "auto") -> ForwardPass:
    rng = np.random.default_rng(0)
    parameters = {
        name: (rng.standard_normal(shape) * 0.2).astype(np.float32)
        for name, shape in net.parameter_shapes().items()
    }
    arithmetic = module.choose_arithmetic(net, SIZE, "float32", algorithm, training=False)
    return ForwardPass(net, parameters, SIZE, arithmetic=arithmetic)


def patches(made: ForwardPass, count: int) -> list[dict[str, np.ndarray]]:
    sizes = made.network.input_sizes(SIZE)
    rng = np.random.default_rng(1)
    return [
        {name: rng.standard_normal((*s, 1)).astype(np.float32) for name, s in sizes.items()}
        for _ in range(count)
    ]


@pytest.fixture
def engine():
    made = Engine(3)
    yield made
    made.close()


@pytest.mark.parametrize("algorithm", ["direct", "tiled"])
def test_same_bits_inline_and_in_an_engine_with_patches_under_way(engine, algorithm):
    made = forward(network(), algorithm)
    given = patches(made, 4)
    expected = [made(x)["output"] for x in given]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda i: made(given[i], engine, (i,))["output"], range(4)))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_threads_share_one_patch(engine, monkeypatch):
    made = forward(network(), "tiled")
    assert len(made._compiled().layers.blocks["nc2"]) >= 2
    threads, together = set(), threading.Barrier(2, timeout=10)
    compute = module.passes.forward_block

    def watched(layers, state, tape, node, b):
        threads.add(threading.get_ident())
        if node == "nc2" and b < 2:
            together.wait()  # two blocks of one layer are computed at a time
        compute(layers, state, tape, node, b)

    monkeypatch.setattr(module.passes, "forward_block", watched)
    made(patches(made, 1)[0], engine)
    assert len(threads) >= 2


def test_maps_go_when_nothing_reads_them_any_more(monkeypatch):
    made = forward(network())
    compute, held = module.passes.forward_block, {}

    def watched(layers, state, tape, node, b):
        compute(layers, state, tape, node, b)
        held[node] = set(tape.maps)

    monkeypatch.setattr(module.passes, "forward_block", watched)
    made(patches(made, 1)[0])
    order = [node.name for node in made.network.topological]
    for before, node in itertools.pairwise(order):
        assert held[node] == {before, node}


def test_a_failing_task_names_its_layer(engine, monkeypatch):
    made = forward(network())
    given = patches(made, 1)[0]
    expected = made(given)["output"]

    def failing(layers, state, tape, node, b):
        raise OSError("no luck")

    with monkeypatch.context() as patch:
        patch.setattr(module.passes, "forward_block", failing)
        with pytest.raises(TaskError, match="forward of a, block 0: OSError: no luck"):
            made(given, engine)
    np.testing.assert_array_equal(made(given, engine)["output"], expected)
