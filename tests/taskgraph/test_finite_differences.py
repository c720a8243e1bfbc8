"""Gradients against finite differences in float64: every edge type, every transfer function."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.cluster.gradients import gradients
from znn_dask.cluster.work import Context, TrainingSpec, passes
from znn_dask.kernels.initialise import tie
from znn_dask.kernels.layout import kernels_from_znn, kernels_to_znn
from znn_dask.network import EdgeGroup, Network, NodeGroup
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import given_source
from znn_dask.taskgraph.plan import choose_arithmetic

Arrays = dict[str, np.ndarray]
Compute = Callable[[Arrays], tuple[Arrays, Arrays]]
ALGORITHMS = ("direct", "fft", "tiled")
STEP = 1e-5


def case(network: Network, output_size: tuple[int, int, int], seed: int = 0) -> tuple[Arrays, ...]:
    """Random parameters, inputs and output gradients."""
    rng = np.random.default_rng(seed)
    sizes = network.sizes(output_size)

    def maps(nodes: tuple[NodeGroup, ...]) -> Arrays:
        return {node.name: rng.normal(size=(node.size, *sizes[node.name])) for node in nodes}

    parameters = {
        name: rng.normal(size=shape) * (0.5 if name.endswith("biases") else 0.4)
        for name, shape in network.parameter_shapes().items()
    }
    for edge in network.conv_edges:
        if edge.repeat != (1, 1, 1):
            name = f"{edge.name}.filters"
            parameters[name] = kernels_to_znn(tie(kernels_from_znn(parameters[name]), edge.repeat))
    return parameters, maps(network.inputs), maps(network.outputs)


def assert_derivatives(compute: Compute, parameters: Arrays, given: Arrays, picks: int = 6) -> None:
    """Central differences of E = sum(given * output) in a few random entries of each array."""
    rng = np.random.default_rng(9)
    _, found = compute(parameters)
    assert found.keys() == parameters.keys()

    def energy(changed: Arrays) -> float:
        outputs, _ = compute(changed)
        return sum(float(np.sum(given[name] * outputs[name])) for name in outputs)

    for name, values in parameters.items():
        for _ in range(min(picks, values.size)):
            at = tuple(rng.integers(n) for n in values.shape)
            shifted = []
            for sign in (1, -1):
                moved = values.copy()
                moved[at] += sign * STEP
                shifted.append(energy(parameters | {name: moved}))
            slope = (shifted[0] - shifted[1]) / (2 * STEP)
            assert found[name][at] == pytest.approx(slope, rel=2e-5, abs=2e-6), (name, at)


def check(network: Network, output_size: tuple[int, int, int], algorithm: str = "auto") -> None:
    """Dropout is keyed: the same voxels are dropped in every pass."""
    parameters, inputs, given = case(network, output_size)
    arithmetic = choose_arithmetic(network, output_size, "float64", algorithm)
    source = given_source(inputs, given, "float64")
    spec = TrainingSpec(network, arithmetic, "given", source, seed=3)
    engine = Engine(1)
    try:
        context = Context(spec, engine)
        assert_derivatives(lambda changed: passes(context, changed), parameters, given)
    finally:
        engine.close()


def dilated() -> Network:
    return (
        Network()
        .input(size=2)
        .conv("c1", 3, (1, 2, 2), "tanh", stride=(1, 2, 2))
        .conv("c2", 2, (2, 3, 2), "tanh")
        .conv("c3", 2, 1, "linear", node="output")
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_convolution(algorithm: str) -> None:
    check(dilated(), (2, 5, 4), algorithm)


FUNCTIONS = [
    ("linear", ()),
    ("linear", (2.0, -0.5)),
    ("rectify_linear", ()),
    ("tanh", ()),
    ("tanh", (1.7159, 0.6666)),
    ("soft_sign", ()),
    ("logistics", ()),
]


@pytest.mark.parametrize(("function", "arguments"), FUNCTIONS)
def test_transfer_functions(function: str, arguments: tuple[float, ...]) -> None:
    net = (
        Network()
        .input()
        .conv("c1", 3, (1, 3, 3), function, function_args=arguments)
        .conv("c2", 2, (2, 2, 2), function, function_args=arguments, node="output")
    )
    check(net, (2, 4, 3))


def test_forward_logistics_passes_its_gradient_through() -> None:
    """Its loss gives the gradient in front of the function."""
    net = Network().input().conv("c1", 2, (1, 3, 3), "forward_logistics", node="output")
    linear = Network().input().conv("c1", 2, (1, 3, 3), "linear", node="output")
    parameters, inputs, given = case(net, (1, 4, 4))
    outputs, found = gradients(net, parameters, inputs, given)
    plain, expected = gradients(linear, parameters, inputs, given)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    np.testing.assert_allclose(outputs["output"], 1 / (1 + np.exp(-plain["output"])), rtol=1e-12)


def chain(add: Callable[[Network], Network], **options: Any) -> Network:
    """A convolution, the edges of `add`, another convolution."""
    begun = Network().input().conv("c1", 3, (1, 3, 3), "tanh", **options)
    return add(begun).conv("c2", 2, (2, 2, 2), "linear", node="output")


@pytest.mark.parametrize(
    "add",
    [
        lambda net: net.max_filter("m", (1, 2, 2), (1, 2, 2)),
        lambda net: net.max_filter("m", (2, 3, 2), (1, 1, 1)),
        lambda net: net.max_filter("m", 2, 2).max_filter("m2", (1, 3, 1), (1, 3, 1)),
        lambda net: net.max_pool("m", (1, 2, 3)),
        lambda net: net.crop("r", (0, 1, 2)),
        lambda net: net.dropout("d", 0.5),
    ],
    ids=["max-filter", "dense max-filter", "two max-filters", "max-pool", "crop", "dropout"],
)
@pytest.mark.parametrize("algorithm", ["direct", "tiled"])
def test_edges(add: Callable[[Network], Network], algorithm: str) -> None:
    check(chain(add), (2, 4, 3), algorithm)


def test_dummy_and_sums_of_several_edges() -> None:
    """Convolutions with equal and other spectra, a crop and a dummy edge meet in one group."""
    net = (
        Network()
        .input(size=2)
        .conv("a", 3, (1, 3, 3), "tanh", node="na")
        .conv("b", 3, (1, 3, 3), "tanh", source="input", node="nb")
        .conv("ab", 4, (1, 3, 3), "tanh", source="na", node="join")
        .conv("bb", 4, (1, 3, 3), source="nb", to="join")
        .conv("wide", 4, (1, 5, 5), source="input", to="join")
        .conv("more", 4, (1, 1, 1), source="join", node="nmore")
        .sum("both", "join", "nmore", function="tanh")
        .conv("c", 2, (2, 2, 2), "linear", node="output")
    )
    for algorithm in ALGORITHMS:
        check(net, (2, 3, 4), algorithm)


def test_a_cropped_branch() -> None:
    net = (
        Network()
        .input()
        .conv("a", 3, (1, 3, 3), "tanh", node="na")
        .conv("b", 3, (1, 3, 3), "tanh", source="na", node="nb")
        .crop("skip", (0, 1, 1), source="na", to="nb")
        .conv("c", 2, (1, 2, 2), "linear", node="output")
    )
    check(net, (2, 4, 4))


def test_maxout() -> None:
    net = (
        Network()
        .input()
        .conv("a", 3, (1, 3, 3), "linear", node="na")
        .conv("b", 3, (1, 3, 3), "tanh", source="input", node="nb")
        .conv("d", 3, (1, 3, 3), "soft_sign", source="input", node="nd")
        .maxout("most", "na", "nb", "nd")
        .conv("c", 2, (2, 2, 2), "linear", node="output")
    )
    for algorithm in ALGORITHMS:
        check(net, (2, 4, 4), algorithm)


def test_two_inputs_and_two_outputs() -> None:
    net = (
        Network()
        .input("x", 1)
        .input("y", 2)
        .conv("a", 3, (1, 3, 3), "tanh", source="x", node="na")
        .conv("b", 3, (1, 3, 3), source="y", to="na")
        .conv("o1", 2, (1, 2, 2), "linear", source="na", node="first")
        .conv("o2", 3, (1, 2, 2), "tanh", source="na", node="second")
    )
    check(net, (2, 3, 3))


def test_an_output_that_feeds_nothing_but_itself_may_be_a_pooled_map() -> None:
    check(
        Network().input().conv("a", 2, (1, 3, 3), "tanh").max_filter("m", (1, 2, 2), 1), (1, 4, 4)
    )


def test_tied_kernels_have_the_gradient_of_each_weight() -> None:
    """`repeat` averages kernels at updates; the gradient itself is that of free weights."""
    net = (
        Network()
        .input()
        .conv("c1", 2, (2, 4, 4), "tanh", repeat=(1, 2, 2))
        .conv("c2", 2, (1, 2, 2), "linear", node="output")
    )
    check(net, (1, 3, 3), "direct")
    check(net, (1, 3, 3), "fft")


def test_dense_resets_the_dilation() -> None:
    nodes = list(chain(lambda net: net.max_pool("m", (1, 2, 2))).nodes)
    edges = chain(lambda net: net.max_pool("m", (1, 2, 2))).edges
    dense = [
        NodeGroup(**{**vars(node), "dense": True}) if node.name == "nm" else node for node in nodes
    ]
    check(Network(tuple(dense), edges), (1, 3, 3))


def test_a_network_without_anything_to_learn_before_the_output() -> None:
    """No gradient flows into inputs, nor through edges in front of the first parameters."""
    net = (
        Network()
        .input(size=2)
        .max_filter("m", (1, 2, 2), (1, 2, 2))
        .dropout("d", 1.0)
        .conv("c", 2, (1, 2, 2), "tanh", node="output")
    )
    check(net, (1, 3, 3))


triples = st.tuples(*[st.integers(1, 3)] * 3)


@settings(max_examples=40, deadline=None)
@given(
    kernels=st.tuples(triples, triples),
    stride=triples,
    output=st.tuples(*[st.integers(1, 9)] * 3),
    channels=st.tuples(*[st.integers(1, 4)] * 3),
    pool=st.sampled_from([None, (1, 2, 2), (2, 1, 3)]),
    seed=st.integers(0, 5),
)
def test_all_algorithms_agree(
    kernels: tuple[Any, Any],
    stride: tuple[int, int, int],
    output: tuple[int, int, int],
    channels: tuple[int, int, int],
    pool: tuple[int, int, int] | None,
    seed: int,
) -> None:
    net = Network().input(size=channels[0])
    net = net.conv("c1", channels[1], kernels[0], "tanh", stride=stride)
    if pool is not None:
        net = net.max_filter("m", pool, pool)
    net = net.conv("c2", channels[2], kernels[1], "linear", node="output")
    parameters, inputs, given = case(net, output, seed)
    (outputs, expected), *others = (
        gradients(net, parameters, inputs, given, algorithm=algorithm)
        for algorithm in (*ALGORITHMS, "auto")
    )
    for other_outputs, found in others:
        for name, values in (outputs | expected).items():
            scale = max(1.0, np.abs(values).max())
            other = (other_outputs | found)[name]
            np.testing.assert_allclose(other, values, rtol=0, atol=1e-11 * scale, err_msg=name)


def test_a_network_read_edge_by_edge_is_the_built_one() -> None:
    """A dummy edge into a transfer group adds biases and applies its function."""
    nodes = (
        NodeGroup("input", "input", 2),
        NodeGroup("output", "transfer", 2, function="tanh", function_args=(1.5, 0.5)),
    )
    net = Network(nodes, (EdgeGroup("e", "dummy", "input", "output"),))
    check(net, (2, 3, 3))
