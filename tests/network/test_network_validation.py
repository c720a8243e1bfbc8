"""Every way a network can be wrong gives one line: what, both values, what to do."""

from dataclasses import replace

import pytest

from znn_dask.network import EdgeGroup, Network, NetworkError, NodeGroup, zoo

INPUT = NodeGroup("input", "input", 1)
A = NodeGroup("a", "transfer", 4)
B = NodeGroup("b", "sum", 4)
CONV = EdgeGroup("c", "conv", "input", "a", (3, 3, 3), init="msra")
POOL = EdgeGroup("p", "max_filter", "a", "b", (2, 2, 2), (2, 2, 2))
C = NodeGroup("c", "sum", 4)

WRONG = {
    "empty": (Network(), "the network has no node groups; begin with an input group"),
    "duplicate node": (
        Network((INPUT, A, A), (CONV,)),
        "node group 'a' is defined 2 times; rename all but one of them",
    ),
    "duplicate edge": (
        Network((INPUT, A), (CONV, CONV)),
        "edge group 'c' is defined 2 times; rename all but one of them",
    ),
    "name of two words": (
        Network((INPUT, replace(A, name="a b")), ()),
        "node group 'a b': name 'a b' must be one word without spaces; join it with - or _",
    ),
    "node type": (
        Network((INPUT, replace(A, type="relu")), (CONV,)),
        "node group 'a': type 'relu' is unknown; use one of input, sum, transfer, maxout",
    ),
    "edge type": (
        Network((INPUT, A), (replace(CONV, type="softmax"),)),
        "edge group 'c': type 'softmax' is unknown; use one of conv, max_filter, max_pool, dropout,"
        " crop, maxout, dummy",
    ),
    "no channels": (
        Network((INPUT, replace(A, size=0)), (CONV,)),
        "node group 'a': size 0 must be at least 1 channel; raise it",
    ),
    "function": (
        Network((INPUT, replace(A, function="relu")), (CONV,)),
        "node group 'a': function 'relu' is unknown; use one of linear, rectify_linear, tanh,"
        " soft_sign, logistics, forward_logistics",
    ),
    "function arguments": (
        Network((INPUT, replace(A, function="tanh", function_args=(1.0, 2.0, 3.0))), (CONV,)),
        "node group 'a': function tanh takes at most 2 arguments but has 3; remove the others",
    ),
    "infinite argument": (
        Network((INPUT, replace(A, function_args=(float("inf"),))), (CONV,)),
        "node group 'a': function_args (inf,) must be finite numbers; change it",
    ),
    "xavier on a node": (
        Network((INPUT, replace(A, init="xavier")), (CONV,)),
        "node group 'a': init xavier needs the number of inputs, which biases do not have; use"
        " zero, constant, uniform, gaussian or bernoulli",
    ),
    "msra on a node": (
        Network((INPUT, replace(A, init="msra")), (CONV,)),
        "node group 'a': init msra needs the number of inputs, which biases do not have; use"
        " zero, constant, uniform, gaussian or bernoulli",
    ),
    "init": (
        Network((INPUT, A), (replace(CONV, init="he"),)),
        "edge group 'c': init 'he' is unknown; use one of zero, constant, uniform, gaussian,"
        " bernoulli, xavier, msra",
    ),
    "no init": (
        Network((INPUT, A), (replace(CONV, init=None),)),
        "edge group 'c': conv has no init; add one, for example init msra",
    ),
    "constant of nothing": (
        Network((INPUT, A), (replace(CONV, init="constant"),)),
        "edge group 'c': init constant needs its value; add for example init_args 0.1",
    ),
    "kernel size": (
        Network((INPUT, A), (replace(CONV, size=(3, 0, 3)),)),
        "edge group 'c': size 3,0,3 must be three numbers z,y,x of at least 1; change it",
    ),
    "stride": (
        Network((INPUT, A), (replace(CONV, stride=(0, 1, 1)),)),
        "edge group 'c': stride 0,1,1 must be three numbers z,y,x of at least 1; change it",
    ),
    "offset": (
        Network((INPUT, A), (replace(CONV, offset=(0, -1, 0)),)),
        "edge group 'c': offset 0,-1,0 must be three numbers z,y,x of at least 0; change it",
    ),
    "repeat": (
        Network((INPUT, A), (replace(CONV, repeat=(1, 2, 1)),)),
        "edge group 'c': repeat 1,2,1 does not divide size 3,3,3; change one of them",
    ),
    "ratio": (
        Network((INPUT, A, B), (CONV, EdgeGroup("d", "dropout", "a", "b", ratio=0.0))),
        "edge group 'd': ratio 0 must be above 0 and at most 1; it is the probability to keep a"
        " voxel",
    ),
    "unknown input": (
        Network((INPUT, A), (replace(CONV, input="in"),)),
        "edge group 'c': input 'in' is not a node group; there are input, a",
    ),
    "unknown output": (
        Network((INPUT, A), (replace(CONV, output="x"),)),
        "edge group 'c': output 'x' is not a node group; there are input, a",
    ),
    "channels": (
        Network((INPUT, A, replace(B, size=5)), (CONV, POOL)),
        "edge group 'p': max_filter joins maps one to one but 'a' has 4 channels and 'b' has 5;"
        " make them equal",
    ),
    "maxout edge": (
        Network((INPUT, A, B), (CONV, EdgeGroup("m", "maxout", "a", "b"))),
        "edge group 'm': an edge of type maxout cannot enter 'b' of type sum; maxout edges belong"
        " to maxout node groups only",
    ),
    "maxout node": (
        Network((INPUT, A, replace(B, type="maxout")), (CONV, POOL)),
        "edge group 'p': an edge of type max_filter cannot enter 'b' of type maxout; maxout edges"
        " belong to maxout node groups only",
    ),
    "into an input": (
        Network((INPUT, A, NodeGroup("i", "input", 4)), (CONV, replace(POOL, output="i"))),
        "edge group 'p': its output 'i' is of type input, which nothing may enter; make it a sum or"
        " transfer group",
    ),
    "unused input": (
        Network((INPUT, A, NodeGroup("i", "input", 4)), (CONV,)),
        "node group 'i': no edge group leaves this input; connect or remove it",
    ),
    "unfed node": (
        Network((INPUT, A, B), (CONV,)),
        "node group 'b': no edge group enters this group of type sum; connect it or make it an"
        " input",
    ),
    "cycle": (
        Network(
            (INPUT, A, B, C),
            (CONV, POOL, EdgeGroup("q", "dummy", "b", "c"), EdgeGroup("r", "dummy", "c", "a")),
        ),
        "node groups form a cycle: a -> b -> c -> a; remove one of the edges between them",
    ),
    "edge to itself": (
        Network((INPUT, A), (CONV, EdgeGroup("q", "dummy", "a", "a"))),
        "node groups form a cycle: a -> a; remove one of the edges between them",
    ),
    "dilations": (
        Network((INPUT, A, B), (CONV, POOL, EdgeGroup("q", "crop", "a", "b", offset=(1, 1, 1)))),
        "node group 'b': edge group 'p' brings a dilation of 2,2,2 but edge group 'q' brings 1,1,1;"
        " make the strides equal, or let dense 1 at the group reset the dilation",
    ),
    "max_pool of a dilated map": (
        Network(
            (INPUT, A, B, C),
            (CONV, POOL, EdgeGroup("q", "max_pool", "b", "c", (1, 2, 2))),
        ),
        "edge group 'q': max_pool of a map with dilation 2,2,2 is not defined (it needs 1,1,1);"
        " use max_filter with stride 1,2,2",
    ),
    "sizes": (
        Network(
            (INPUT, A, B),
            (CONV, replace(POOL, stride=(1, 1, 1)), EdgeGroup("q", "dummy", "a", "b")),
        ),
        "node group 'a': edge group 'p' needs maps of 2,2,2 but edge group 'q' needs 1,1,1 for an"
        " output of 1,1,1; make both paths equal, for example by a crop",
    ),
    "sizes that agree by chance": (
        Network(
            (INPUT, A, B),
            (
                CONV,
                EdgeGroup("p", "max_pool", "a", "b", (3, 3, 3)),
                EdgeGroup("q", "crop", "a", "b", offset=(1, 1, 1)),
            ),
        ),
        "node group 'a': edge group 'p' needs maps of 6,6,6 but edge group 'q' needs 4,4,4 for an"
        " output of 2,2,2; make both paths equal, for example by a crop",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_message(case: str) -> None:
    net, message = WRONG[case]
    with pytest.raises(NetworkError) as error:
        net.validate()
    assert str(error.value) == message
    assert "\n" not in message


def test_a_wrong_network_is_refused_on_use() -> None:
    net = Network((INPUT, A, B), (CONV,))
    for use in (
        lambda: net.topological,
        lambda: net.field_of_view,
        lambda: net.dilation("a"),
        lambda: net.sizes((1, 1, 1)),
        lambda: net.output_size((9, 9, 9)),
        net.parameter_shapes,
    ):
        with pytest.raises(NetworkError, match="no edge group enters"):
            use()


def test_networkerror_is_a_valueerror() -> None:
    assert issubclass(NetworkError, ValueError)


def test_unknown_names() -> None:
    net = zoo.small3d()
    with pytest.raises(NetworkError, match="there is no node group 'x'; use one of: input, nconv1"):
        net.node("x")
    with pytest.raises(NetworkError, match="there is no edge group 'x'; use one of: conv1, conv2"):
        net.edge("x")
    with pytest.raises(NetworkError, match="there is no node group 'x'"):
        net.dilation("x")


def test_filters_may_stand_for_an_init() -> None:
    Network((INPUT, A), (replace(CONV, init=None, options=(("filters", "f"),)),)).validate()


def test_arguments_have_defaults() -> None:
    assert replace(A, function="linear").arguments == (1, 0)
    assert replace(A, function="linear", function_args=(3.0,)).arguments == (3, 0)
    assert replace(A, function="tanh", function_args=(1.7, 0.6)).arguments == (1.7, 0.6)
    assert replace(A, function="rectify_linear", function_args=(3.0,)).arguments == ()
