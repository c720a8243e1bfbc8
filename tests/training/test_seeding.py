"""Fine-tuning: what is copied, skipped, absent, of another shape."""

import dataclasses

import numpy as np
import pytest

from znn_dask.network import Network, parse_znn
from znn_dask.training.seeding import seed_parameters
from znn_dask.training.state import CheckpointError

ZNN = """
nodes input
type input
size 1

edges conv1
type conv
init xavier
size 1,3,3
stride 1,1,1
input input
output n1

nodes n1
type transfer
function rectify_linear
size 4

edges conv2
type conv
init xavier
size 1,3,3
stride 1,1,1
input n1
output output

nodes output
type transfer
function linear
size 2
"""


def network(**options: str) -> Network:
    """The network, with `seeding` as given for some of its layers."""
    text = ZNN
    for name, value in options.items():
        for kind in ("nodes", "edges"):
            text = text.replace(f"{kind} {name}\n", f"{kind} {name}\nseeding {value}\n")
    return parse_znn(text)


def parameters(net: Network, seed: int, dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = net.parameter_shapes()
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def test_all_layers_are_copied_into_new_arrays():
    net = network()
    own, source = parameters(net, 1), parameters(net, 2, "float64")
    result, report = seed_parameters(net, own, source)
    assert list(result) == list(own)
    for name, array in result.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, source[name].astype(np.float32))
        assert not np.shares_memory(array, source[name])
    assert report.copied == tuple(own)
    assert str(report) == "copied 4 parameters"


def test_seeding_0_keeps_a_layer():
    net = network(conv2="0", n1="1", output="0")
    own, source = parameters(net, 1), parameters(net, 2)
    result, report = seed_parameters(net, own, source)
    assert report.skipped == ("conv2.filters", "output.biases")
    assert report.copied == ("conv1.filters", "n1.biases")
    assert result["conv2.filters"] is own["conv2.filters"]
    assert str(report) == "copied 2 parameters; skipped (seeding 0): conv2.filters, output.biases"


def test_absent_and_unused_layers_are_reported():
    net = network()
    source = parameters(net, 2)
    source["old.filters"] = source.pop("conv2.filters")
    result, report = seed_parameters(net, parameters(net, 1), source)
    assert report.absent == ("conv2.filters",)
    assert report.unused == ("old.filters",)
    assert set(result) == set(net.parameter_shapes())
    assert str(report).endswith("not in the source: conv2.filters; unused: old.filters")


def test_another_shape_is_refused():
    wide = Network(
        nodes=tuple(
            dataclasses.replace(node, size=3) if node.name == "output" else node
            for node in network().nodes
        ),
        edges=network().edges,
    )
    own, source = parameters(wide, 1), parameters(network(), 2)
    with pytest.raises(CheckpointError) as caught:
        seed_parameters(wide, own, source)
    assert str(caught.value) == (
        "seeding: conv2.filters has shape (4, 3, 1, 3, 3) in the network but (4, 2, 1, 3, 3) in "
        'the source; rename the layer, or give it the option "seeding 0"'
    )


def test_nothing_in_common_is_an_error():
    net = network()
    with pytest.raises(CheckpointError, match=r"no layer of the network is in the source.*has x$"):
        seed_parameters(net, parameters(net, 1), {"x": np.zeros(1)})
