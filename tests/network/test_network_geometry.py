"""Sizes, dilations and fields of view, against hand computation and ZNN's own recursion."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.network import EdgeGroup, Network, NetworkError, NodeGroup, Triple, read_znn, zoo

STEP = st.tuples(
    st.sampled_from(["conv", "max_filter", "max_pool", "dropout"]),
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5)),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2)),
)


@st.composite
def chains(draw: st.DrawFn) -> Network:
    """Random valid chains: max_pool only while nothing has been strided."""
    net, sparse = Network().input(), False
    for i, (kind, size, stride) in enumerate(draw(st.lists(STEP, min_size=1, max_size=6))):
        match kind:
            case "max_pool" if not sparse:
                net = net.max_pool(f"e{i}", size)
            case "max_filter":
                net, sparse = net.max_filter(f"e{i}", size, stride), sparse or stride != (1, 1, 1)
            case "dropout":
                net = net.dropout(f"e{i}")
            case _:
                net, sparse = net.conv(f"e{i}", 3, size, stride=stride), sparse or max(stride) > 1
    return net


def test_n4_like_network_by_hand() -> None:
    # N4, 2D: 4 max-filters of 2 with stride 2 double the dilation each time.
    net = zoo.n4()
    assert net.field_of_view == (1, 95, 95)
    assert [net.dilation(f"npool{i}") for i in range(1, 5)] == [
        (1, 2, 2),
        (1, 4, 4),
        (1, 8, 8),
        (1, 16, 16),
    ]
    # From the output: conv5 (3-1)*16, pool4 (2-1)*8, conv4 (4-1)*8, pool3 4, conv3 3*4, ...
    sizes = net.sizes((1, 1, 1))
    assert [sizes[name][1] for name in ("output", "nconv5", "npool4", "nconv4", "npool3")] == [
        1,
        1,
        33,
        41,
        65,
    ]
    assert [sizes[name][1] for name in ("nconv3", "npool2", "nconv2", "npool1", "nconv1")] == [
        69,
        81,
        83,
        91,
        92,
    ]
    assert net.input_sizes((1, 100, 100)) == {"input": (1, 194, 194)}
    assert net.output_size((1, 194, 194)) == (1, 100, 100)


def test_max_pool_scales_sizes_and_keeps_dilation() -> None:
    net = Network().input().conv("a", 4, 3).max_pool("p", 2).conv("b", 4, 5)
    assert net.dilation("np") == (1, 1, 1)
    assert net.sizes((1, 2, 3)) == {
        "nb": (1, 2, 3),
        "np": (5, 6, 7),
        "na": (10, 12, 14),
        "input": (12, 14, 16),
    }
    assert net.field_of_view == (12, 12, 12)
    assert net.fields_of_view_so_far["np"] == (4, 4, 4)
    assert net.output_size((12, 14, 16)) == (1, 2, 3)


def test_stride_of_a_convolution_dilates_what_follows() -> None:
    net = Network().input().conv("a", 2, 3, stride=(1, 2, 3)).conv("b", 2, 3)
    assert net.dilation("na") == (1, 2, 3)
    assert net.field_of_view == (5, 7, 9)
    assert net.input_sizes((1, 1, 1)) == {"input": (5, 7, 9)}


def test_dense_resets_the_dilation() -> None:
    sparse = Network().input().max_filter("p", 2, 2).conv("a", 2, 3)
    nodes = tuple(
        NodeGroup(n.name, n.type, n.size, dense=True) if n.name == "np" else n for n in sparse.nodes
    )
    dense = Network(nodes, tuple(sparse.edges))
    assert sparse.field_of_view == (6, 6, 6)
    assert dense.dilation("np") == (1, 1, 1)
    assert dense.field_of_view == (4, 4, 4)
    assert dense.fields_of_view_so_far["na"] == (4, 4, 4)


def test_crop_needs_a_larger_map_but_sees_no_further() -> None:
    net = Network().input().conv("a", 2, (1, 3, 3)).crop("k", (0, 2, 2))
    assert net.field_of_view == (1, 3, 3)
    assert net.input_sizes((1, 1, 1)) == {"input": (1, 7, 7)}
    skip = (
        Network()
        .input()
        .conv("a", 2, 1)
        .conv("b", 2, 5)
        .crop("k", 2, source="na")
        .sum("s", "nb", "nk")
    )
    assert skip.input_sizes((3, 3, 3)) == {"input": (7, 7, 7)}
    assert skip.field_of_view == (5, 5, 5)


def test_inputs_may_need_different_sizes() -> None:
    net = (
        Network()
        .input("fine")
        .conv("a", 2, (3, 5, 5))
        .input("coarse", 3)
        .conv("b", 2, (1, 3, 3), to="na")
        .conv("o", 1, (1, 2, 2))
    )
    needed = {"fine": (6, 9, 9), "coarse": (4, 7, 7)}
    assert net.input_sizes((4, 4, 4)) == needed
    assert net.output_size(needed) == (4, 4, 4)
    assert net.field_of_view == (3, 6, 6)
    assert net.fields_of_view["coarse"] == (1, 4, 4)


def test_topological_order_keeps_the_order_of_declaration() -> None:
    conv = {"type": "conv", "init": "zero"}
    net = Network(
        (
            NodeGroup("out", "transfer", 1),
            NodeGroup("b", "transfer", 1),
            NodeGroup("a", "transfer", 1),
            NodeGroup("input", "input", 1),
        ),
        (
            EdgeGroup("1", input="a", output="out", **conv),
            EdgeGroup("2", input="b", output="out", **conv),
            EdgeGroup("3", input="input", output="a", **conv),
            EdgeGroup("4", input="input", output="b", **conv),
        ),
    )
    assert [node.name for node in net.topological] == ["input", "b", "a", "out"]


def test_parameter_shapes() -> None:
    net = Network().input("input", 2).conv("a", 3, (1, 4, 5)).max_filter("p", 2, 2).conv("b", 7, 3)
    assert net.parameter_shapes() == {
        "a.filters": (2, 3, 1, 4, 5),
        "b.filters": (3, 7, 3, 3, 3),
        "na.biases": (3,),
        "nb.biases": (7,),
    }


@settings(deadline=None)
@given(chains())
def test_field_of_view_follows_znn_recursion(net: Network) -> None:
    """ZNN goes backward in strided voxels: (fov - 1) * stride + kernel, times a max_pool's size."""
    view = [1, 1, 1]
    for edge in reversed(net.edges):
        for axis in range(3):
            if edge.slides:
                view[axis] = (view[axis] - 1) * edge.stride[axis] + edge.size[axis]
            elif edge.type == "max_pool":
                view[axis] *= edge.size[axis]
    assert net.field_of_view == tuple(view)
    assert net.fields_of_view_so_far[net.outputs[0].name] == net.field_of_view
    assert net.input_sizes((1, 1, 1))["input"] == net.field_of_view


@settings(deadline=None)
@given(chains(), st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)))
def test_sizes_both_ways_agree(net: Network, output: Triple) -> None:
    assert net.output_size(net.input_sizes(output)) == output
    assert net.output_size(net.input_sizes(output)["input"]) == output


@pytest.mark.parametrize(
    ("name", "output", "inputs"),
    [
        ("slide_3L_w5_k5", (16, 16, 16), {"input": (28, 28, 28)}),
        ("slide_3L_w10_k7", (16, 16, 16), {"input": (34, 34, 34)}),
        ("slide_4L_w16_k5", (16, 16, 16), {"input": (32, 32, 32)}),
        ("srini2d", (1, 100, 100), {"input": (1, 136, 136)}),
        ("N4_relu", (1, 100, 100), {"input": (1, 194, 194)}),
        ("VD2D", (1, 64, 64), {"input": (1, 172, 172)}),
        ("VD2D3D", (4, 32, 32), {"input": (8, 116, 116), "input-r": (8, 116, 116)}),
        ("wide4_w40_k5_cmcmcc", (16, 16, 16), {"input": (63, 63, 63)}),
        ("bench_3d_3", (4, 4, 4), {"input": (54, 54, 54)}),
        ("bench_3d_7", (3, 3, 3), {"input": (126, 126, 126)}),
        ("bench_2d_20", (1, 27, 27), {"input": (4, 469, 469)}),
    ],
)
def test_sizes_are_those_of_the_original(
    shared: Path, name: str, output: Triple, inputs: Mapping[str, Triple]
) -> None:
    net = read_znn(shared / "znn" / "networks" / f"{name}.znn")
    assert net.input_sizes(output) == inputs
    assert net.output_size(inputs) == output


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (
            (2, 14, 16),
            "edge group 'a': nothing is left of its input map 2,14,16, it needs at least 3,3,3;"
            " use a larger input",
        ),
        (
            (13, 14, 16),
            "edge group 'p': max_pool 2,2,2 does not divide its input map 11,12,14;"
            " change the input size so that it does",
        ),
        (
            (10, 14, 16),
            "edge group 'b': nothing is left of its input map 4,6,7, it needs at least 5,5,5;"
            " use a larger input",
        ),
    ],
)
def test_impossible_input_sizes(size: Triple, message: str) -> None:
    net = Network().input().conv("a", 4, 3).max_pool("p", 2).conv("b", 4, 5)
    with pytest.raises(NetworkError) as error:
        net.output_size(size)
    assert str(error.value) == message


def test_inputs_that_do_not_fit_together() -> None:
    net = Network().input("a").conv("1", 2, 3).input("b").conv("2", 2, 5, to="n1")
    with pytest.raises(NetworkError, match=r"brings maps of 8,8,8 but edge group '2' brings 6,6,6"):
        net.output_size((10, 10, 10))
    with pytest.raises(NetworkError, match="given for a but the network's inputs are a, b"):
        net.output_size({"a": (10, 10, 10)})


def test_outputs_that_differ() -> None:
    net = Network().input("a").conv("1", 2, 3).input("b").conv("2", 2, 5)
    with pytest.raises(NetworkError, match=r"'n1' would have size 8,8,8 but output 'n2' 6,6,6"):
        net.output_size((10, 10, 10))


@pytest.mark.parametrize("size", [(0, 1, 1), (1, 1), (1, -2, 3), (1, 1.5, 2), 7])
def test_sizes_asked_for_must_be_sizes(size: Triple) -> None:
    wanted = "but must be three whole numbers z,y,x of at least 1,1,1; change it"
    with pytest.raises(NetworkError, match=f"output size is .* {wanted}"):
        zoo.small3d().input_sizes(size)
    with pytest.raises(NetworkError, match=f"size of input 'input' is .* {wanted}"):
        zoo.small3d().output_size(size)
