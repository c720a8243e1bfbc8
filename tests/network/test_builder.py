"""Networks written in Python: what each method adds, how chains branch and join."""

from collections.abc import Callable

import pytest

from znn_dask.network import EdgeGroup, Network, NetworkError, NodeGroup, parse_znn, zoo


def test_a_chain() -> None:
    net = (
        Network()
        .input(size=2)
        .conv("conv1", 8, 5)
        .max_filter("pool1", (1, 2, 2), stride=(1, 2, 2))
        .max_pool("pool2", (2, 1, 1), source="nconv1")
        .dropout("drop", 0.8, source="npool1")
        .crop("crop", 1)
        .conv("out", 3, 1, "tanh", function_args=(1.7159, 0.6666), bias=0.5, node="output")
    )
    assert net.nodes == (
        NodeGroup("input", "input", 2),
        NodeGroup("nconv1", "transfer", 8, function="rectify_linear"),
        NodeGroup("npool1", "sum", 8),
        NodeGroup("npool2", "sum", 8),
        NodeGroup("ndrop", "sum", 8),
        NodeGroup("ncrop", "sum", 8),
        NodeGroup("output", "transfer", 3, "tanh", (1.7159, 0.6666), "constant", (0.5,)),
    )
    assert net.edges == (
        EdgeGroup("conv1", "conv", "input", "nconv1", (5, 5, 5), init="msra"),
        EdgeGroup("pool1", "max_filter", "nconv1", "npool1", (1, 2, 2), (1, 2, 2)),
        EdgeGroup("pool2", "max_pool", "nconv1", "npool2", (2, 1, 1), (2, 1, 1)),
        EdgeGroup("drop", "dropout", "npool1", "ndrop", ratio=0.8),
        EdgeGroup("crop", "crop", "ndrop", "ncrop", offset=(1, 1, 1)),
        EdgeGroup("out", "conv", "ncrop", "output", init="xavier"),
    )


def test_networks_are_not_changed() -> None:
    start = Network().input()
    left, right = start.conv("a", 1, 3), start.conv("b", 2, 5)
    assert len(start.nodes) == 1
    assert [node.name for node in left.nodes + right.nodes] == ["input", "na", "input", "nb"]


def test_two_edges_sum_into_one_group() -> None:
    net = (
        Network()
        .input("image")
        .conv("a", 4, 3)
        .input("map")
        .conv("b", 4, 3, to="na")
        .conv("c", 1, 1, "logistics")
    )
    assert [edge.name for edge in net.edges_into("na")] == ["a", "b"]
    assert net.edge("c").input == "na"
    assert net.outputs == (net.node("nc"),)


def test_sum_and_maxout() -> None:
    net = (
        Network()
        .input()
        .conv("a", 4, 3)
        .conv("b", 4, 3, source="input")
        .maxout("best", "na", "nb")
        .sum("both", "best", "nb", function="tanh")
    )
    net.validate()
    assert net.node("best").type == "maxout"
    assert net.node("both") == NodeGroup("both", "transfer", 4, function="tanh")
    assert [(e.name, e.type) for e in net.edges[2:]] == [
        ("na-best", "maxout"),
        ("nb-best", "maxout"),
        ("best-both", "dummy"),
        ("nb-both", "dummy"),
    ]
    assert net.last == "both"
    assert net.sum("more", "both", "na").node("more").type == "sum"


def test_sum_of_different_dilations_is_dense() -> None:
    net = Network().input().conv("a", 4, 1).max_filter("p", 3, 2).conv("b", 4, 1)
    net = net.crop("k", 1, source="na")
    with pytest.raises(NetworkError, match="brings a dilation of 2,2,2"):
        net.sum("s", "nb", "nk").validate()
    dense = net.sum("s", "nb", "nk", dense=True)
    assert dense.dilation("s") == (1, 1, 1)


def test_a_chain_continues_from_the_only_output_of_a_file() -> None:
    net = parse_znn("nodes in\ntype input\nsize 1").conv("a", 1, 1)
    assert net.edge("a").input == "in"
    # How a network was made does not make it another network.
    assert net == Network(net.nodes, net.edges)
    assert hash(net) == hash(Network(net.nodes, net.edges))


START = Network().input().conv("a", 4, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Network().conv("a", 1, 1),
            "a chain could continue from nothing yet; name one with source=, or begin with an"
            " input",
        ),
        (
            lambda: Network(START.conv("b", 1, 1, source="input").nodes).conv("c", 1, 1),
            "a chain could continue from input, na, nb; name one with source=, or begin with an"
            " input",
        ),
        (
            lambda: START.conv("b", 1, 1, source="nx"),
            "there is no node group 'nx'; use one of: input, na",
        ),
        (
            lambda: START.conv("b", 1, 1, to="nx"),
            "there is no node group 'nx'; use one of: input, na",
        ),
        (
            lambda: START.conv("b", 5, 1, to="na"),
            "edge group 'b': it has 5 channels but the group 'na' that it joins has 4; make them"
            " equal",
        ),
        (
            lambda: START.conv("b", 4, 1, "tanh", source="input", to="na"),
            "edge group 'b': function tanh but the group 'na' that it joins has rectify_linear;"
            " leave the function out",
        ),
        (lambda: START.conv("a", 4, 1), "edge group 'a' exists already; choose another name"),
        (
            lambda: START.conv("b", 4, 1, node="na"),
            "node group 'na' exists already; choose another name, or to='na' to add to it",
        ),
        (
            lambda: START.conv("b", 4, (1, 3)),
            "edge group 'b': (1, 3) is not a size; give three whole numbers (z, y, x) or one",
        ),
        (
            lambda: START.conv("b", 4, 1.5),  # type: ignore[arg-type]
            "edge group 'b': 1.5 is not a size; give three whole numbers (z, y, x) or one",
        ),
        (
            lambda: START.sum("s", "na"),
            "node group 's': a sum of 1 node groups; name at least 2",
        ),
        (
            lambda: START.maxout("s", "na", "input"),
            "node group 's': 'na' has 4 channels but 'input' has 1; make them equal",
        ),
    ],
)
def test_what_cannot_be_built(build: Callable[[], Network], message: str) -> None:
    with pytest.raises(NetworkError) as error:
        build()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("net", "view"),
    [
        (zoo.n4(), (1, 95, 95)),
        (zoo.vd2d(), (1, 109, 109)),
        (zoo.vd2d3d(), (5, 85, 85)),
        (zoo.srini2d(), (1, 37, 37)),
        (zoo.small3d(), (11, 11, 11)),
        (zoo.em3d(), (22, 22, 22)),
    ],
)
def test_zoo_fields_of_view(net: Network, view: tuple[int, int, int]) -> None:
    assert net.field_of_view == view
    assert [node.name for node in net.outputs] == ["output"]


@pytest.mark.parametrize(
    "build", [zoo.n4, zoo.vd2d, zoo.vd2d3d, zoo.srini2d, zoo.small3d, zoo.em3d]
)
def test_zoo_outputs_are_chosen(build: Callable[..., Network]) -> None:
    output = build(channels=7, function="logistics").node("output")
    assert (output.size, output.function) == (7, "logistics")
