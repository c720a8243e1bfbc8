"""Small patches of max-filter networks: the same results from every voxel and from fragments."""

import numpy as np
import pytest

from znn_dask.cluster.work import Context, TrainingSpec, passes
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network
from znn_dask.network.geometry import triple
from znn_dask.taskgraph.arithmetic import Arithmetic
from znn_dask.taskgraph.choice import choose_arithmetic, fragments_pay, multiplications
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import given_source
from znn_dask.taskgraph.plan import plan
from znn_dask.taskgraph.state import Parameters

NETWORK = (
    Network()
    .input()
    .conv("c1", 3, (2, 3, 3))
    .max_filter("p1", (2, 2, 2), (2, 2, 2))
    .conv("c2", 4, (1, 2, 3))
    .max_filter("p2", (1, 3, 2), (1, 2, 2))
    .conv("c3", 3, (2, 2, 2), "tanh")
    .conv("c4", 2, 1, "linear", node="output")
)
# Two ways to one node group.
BRANCHED = (
    Network()
    .input()
    .conv("c1", 2, (1, 3, 3), node="n1")
    .max_filter("p1", (1, 2, 2), (1, 2, 2), node="m1")
    .conv("a", 3, (1, 3, 3), "tanh", source="m1", node="joined")
    .conv("b", 3, (1, 3, 3), source="m1", to="joined")
    .max_filter("p2", (1, 2, 2), (1, 2, 2))
    .conv("c2", 2, (1, 2, 2), "linear", node="output")
)
SIZES = [(1, 1, 1), (1, 3, 3), (2, 1, 3)]


def results(
    network: Network, size: Triple, algorithm: str = "auto", fragments: bool | None = None
) -> tuple[Parameters, Parameters]:
    """Outputs and gradients in float64 of random parameters, inputs and output gradients."""
    rng = np.random.default_rng(0)
    sizes = network.sizes(size)
    parameters = {k: rng.normal(size=s) * 0.4 for k, s in network.parameter_shapes().items()}
    x, g = (
        {node.name: rng.normal(size=(node.size, *sizes[node.name])) for node in nodes}
        for nodes in (network.inputs, network.outputs)
    )
    arithmetic = choose_arithmetic(network, size, "float64", algorithm, fragments=fragments)
    assert fragments is None or arithmetic.fragments is fragments
    engine = Engine(2)
    spec = TrainingSpec(network, arithmetic, "given", given_source(x, g, "float64"))
    found = passes(Context(spec, engine), parameters)
    engine.close()
    return found


@pytest.mark.parametrize("algorithm", ["direct", "fft", "tiled"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("network", [NETWORK, BRANCHED], ids=["chain", "branched"])
def test_outputs_and_gradients_are_the_same(network, size, algorithm) -> None:
    ways = [results(network, size, algorithm, fragments=f) for f in (False, True)]
    for every, read in zip(*ways, strict=True):
        assert every.keys() == read.keys()
        for name, values in every.items():
            scale = np.abs(values).max() + 1e-30
            np.testing.assert_allclose(read[name] / scale, values / scale, atol=1e-12)


def test_a_patch_of_one_voxel_is_computed_as_by_max_pooling() -> None:
    networks = []
    for kind in ("max_filter", "max_pool"):
        network = Network().input()
        for i in range(2):
            network = network.conv(f"c{i}", 3, (1, 3, 3))
            network = (
                network.max_filter(f"p{i}", (1, 2, 2), (1, 2, 2))
                if kind == "max_filter"
                else network.max_pool(f"p{i}", (1, 2, 2))
            )
        networks.append(network.conv("last", 2, (1, 3, 3), "linear", node="output"))
    filters, pools = (results(network, (1, 1, 1)) for network in networks)
    for found, expected in zip(filters, pools, strict=True):
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


def test_the_planner_takes_fragments_where_they_save_work() -> None:
    counts = {
        patch: [multiplications(NETWORK, triple(patch), fragments=f) for f in (False, True)]
        for patch in ((1, 1, 1), (2, 4, 4))
    }
    every, read = counts[1, 1, 1]
    assert read < 0.8 * every
    assert counts[2, 4, 4][0] == counts[2, 4, 4][1]
    assert fragments_pay(NETWORK, (1, 1, 1))
    assert not fragments_pay(NETWORK, (2, 4, 4))
    small, large = (plan(NETWORK, size, slowness=1.0) for size in ((1, 1, 1), (2, 4, 4)))
    assert small.arithmetic.fragments
    assert not large.arithmetic.fragments
    assert "only the fragments that an output patch of 1,1,1 reads" in small.explain()
    assert "fragments" not in large.explain()


def test_older_checkpoints_computed_every_voxel() -> None:
    values = choose_arithmetic(NETWORK, (1, 1, 1)).to_dict()
    assert Arithmetic.from_dict(values).fragments
    del values["fragments"]
    assert not Arithmetic.from_dict(values).fragments
