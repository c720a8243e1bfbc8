"""The .znn grammar: reading, writing, and that nothing is lost between them."""

import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.network import (
    EdgeGroup,
    Network,
    NetworkError,
    NodeGroup,
    Triple,
    format_znn,
    parse_znn,
    read_znn,
    write_znn,
    zoo,
)
from znn_dask.network.groups import EDGE_TYPES, FUNCTIONS, INITIALISATIONS, NODE_TYPES
from znn_dask.network.znn_text import edge_keys, node_keys

WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=8
).filter(lambda word: word.split() == [word])
NUMBERS = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(tuple)
KNOWN_KEYS = {f.name for group in (NodeGroup, EdgeGroup) for f in fields(group)} | {
    "nodes",
    "edges",
}
OPTIONS = st.dictionaries(
    st.one_of(
        st.sampled_from(["eta", "momentum", "weight_decay", "load", "seeding"]), WORDS
    ).filter(lambda key: key not in KNOWN_KEYS),
    st.one_of(st.just(""), WORDS),
    max_size=3,
).map(lambda options: tuple(options.items()))


def triples(least: int) -> st.SearchStrategy[Triple]:
    return st.tuples(*[st.integers(least, 12)] * 3)


NODE_FIELDS: dict[str, st.SearchStrategy[object]] = {
    "size": st.integers(1, 500),
    "dense": st.booleans(),
    "function": st.sampled_from(FUNCTIONS),
    "function_args": NUMBERS,
    "init": st.none() | st.sampled_from(INITIALISATIONS),
    "init_args": NUMBERS,
}
EDGE_FIELDS: dict[str, st.SearchStrategy[object]] = {
    "size": triples(1),
    "stride": triples(1),
    "init": st.none() | st.sampled_from(INITIALISATIONS),
    "init_args": NUMBERS,
    "repeat": triples(1),
    "fft": st.none() | st.booleans(),
    "ratio": st.floats(0, 1),
    "offset": triples(0),
}


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Random groups with every key that their type knows; not necessarily possible networks."""
    node_names = draw(st.lists(WORDS, min_size=1, max_size=5, unique=True))
    edge_names = draw(st.lists(WORDS, max_size=5, unique=True))
    nodes, edges = [], []
    for name in node_names:
        kind = draw(st.sampled_from(NODE_TYPES))
        known = {k: draw(NODE_FIELDS[k]) for k in node_keys(kind) if k in NODE_FIELDS}
        nodes.append(NodeGroup(name, kind, options=draw(OPTIONS), **known))
    for name in edge_names:
        kind = draw(st.sampled_from(EDGE_TYPES))
        ends = [draw(st.sampled_from(node_names)) for _ in range(2)]
        known = {k: draw(EDGE_FIELDS[k]) for k in edge_keys(kind) if k in EDGE_FIELDS}
        edges.append(EdgeGroup(name, kind, *ends, options=draw(OPTIONS), **known))
    return Network(tuple(nodes), tuple(edges))


@settings(deadline=None)
@given(networks())
def test_round_trip_preserves_every_group(net: Network) -> None:
    text = format_znn(net)
    assert parse_znn(text) == net
    assert format_znn(parse_znn(text)) == text


def test_everything_that_can_be_said() -> None:
    net = parse_znn("""
edges c1
type conv   the rest of a line is not read
size 1,3,5
size 2,4,6
stride 1,2,2
repeat 1,2,3
fft 0
init uniform
init_args -0.1,0.1
eta 0.01
input in
output h

nodes in
type input
size 1

nodes h
type transfer
\tfunction   tanh
function_args 1.7159,0.6666
init constant
init_args 0.5
size 6
load 0

edges p
type max_pool
size 1,2,2
input h
output q
nodes q
type sum
dense 1
function rectify_linear
size 6
""")
    assert net.edge("c1") == EdgeGroup(
        "c1",
        "conv",
        "in",
        "h",
        size=(2, 4, 6),
        stride=(1, 2, 2),
        init="uniform",
        init_args=(-0.1, 0.1),
        repeat=(1, 2, 3),
        fft=False,
        options=(("eta", "0.01"),),
    )
    assert net.edge("p").stride == (1, 1, 1)
    assert net.node("h").arguments == (1.7159, 0.6666)
    assert net.node("h").init_args == (0.5,)
    assert net.node("h").options == (("load", "0"),)
    # A sum ignores a function, so it stays among the options, out of harm's way.
    assert net.node("q") == NodeGroup(
        "q", "sum", 6, dense=True, options=(("function", "rectify_linear"),)
    )


def test_text_is_written_in_the_order_of_the_drawing() -> None:
    net = Network().input().conv("c1", 8, (1, 3, 3), fft=True).dropout("d", 0.75)
    assert (
        format_znn(net)
        == """\
nodes input
type input
size 1

edges c1
type conv
input input
output nc1
size 1,3,3
stride 1,1,1
init msra
fft 1

nodes nc1
type transfer
size 8
function rectify_linear

edges d
type dropout
input nc1
output nd
ratio 0.75

nodes nd
type sum
size 8
"""
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n \n", "no 'nodes NAME' or 'edges NAME' in the text; give a .znn network"),
        (
            "\ntype input",
            "line 2: 'type input' stands before any group; begin with a line 'nodes NAME' or"
            " 'edges NAME'",
        ),
        ("nodes", "line 1: 'nodes' has no name; add one word"),
        (
            "nodes a\nsize 1",
            "node group 'a' (line 1): key 'type' is missing, its keys are size; add 'type'",
        ),
        (
            "nodes a\ntype\nsize 1",
            "node group 'a' (line 1): key 'type' is missing, its keys are type, size; add 'type'",
        ),
        (
            "nodes a",
            "node group 'a' (line 1): key 'type' is missing, its keys are none; add 'type'",
        ),
        (
            "nodes a\ntype sum",
            "node group 'a' (line 1): key 'size' is missing, its keys are type; add 'size'",
        ),
        (
            "nodes a\ntype transfer\nsize 3",
            "node group 'a' (line 1): key 'function' is missing, its keys are type, size;"
            " add 'function'",
        ),
        (
            "nodes a\ntype sum\nsize 3,3,3",
            "node group 'a' (line 1): size is '3,3,3'; make it a whole number of channels",
        ),
        (
            "nodes a\ntype sum\nsize 3\ndense yes",
            "node group 'a' (line 1): dense is 'yes'; make it 0 or 1",
        ),
        (
            "nodes a\ntype transfer\nsize 3\nfunction tanh\nfunction_args 1;2",
            "node group 'a' (line 1): function_args is '1;2'; make it numbers with commas between,"
            " as in 0.1,2",
        ),
        (
            "\nedges e\ntype conv\ninput a\noutput b",
            "edge group 'e' (line 2): key 'size' is missing, its keys are type, input, output;"
            " add 'size'",
        ),
        (
            "edges e\ntype conv\ninput a\nsize 1,1,1",
            "edge group 'e' (line 1): key 'output' is missing, its keys are type, input, size;"
            " add 'output'",
        ),
        (
            "edges e\ntype max_filter\ninput a\noutput b\nsize 1,2,2",
            "edge group 'e' (line 1): key 'stride' is missing, its keys are type, input, output,"
            " size; add 'stride'",
        ),
        (
            "edges e\ntype crop\ninput a\noutput b",
            "edge group 'e' (line 1): key 'offset' is missing, its keys are type, input, output;"
            " add 'offset'",
        ),
        (
            "edges e\ntype conv\ninput a\noutput b\nsize 3",
            "edge group 'e' (line 1): size is '3'; make it three whole numbers z,y,x as in 1,3,3",
        ),
        (
            "edges e\ntype conv\ninput a\noutput b\nsize 3,3.5,3",
            "edge group 'e' (line 1): size is '3,3.5,3'; make it three whole numbers z,y,x as in"
            " 1,3,3",
        ),
        (
            "edges e\ntype dropout\ninput a\noutput b\nratio half",
            "edge group 'e' (line 1): ratio is 'half'; make it a probability such as 0.5",
        ),
    ],
)
def test_what_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(NetworkError) as error:
        parse_znn(text)
    assert str(error.value) == message


def test_a_group_defined_twice_is_refused_on_use() -> None:
    net = parse_znn("nodes a\ntype input\nsize 1\nnodes a\ntype input\nsize 2")
    with pytest.raises(NetworkError, match="node group 'a' is defined 2 times"):
        net.validate()


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "net.znn"
    write_znn(zoo.vd2d3d(), path)
    assert read_znn(path) == zoo.vd2d3d()
    write_znn(zoo.n4(), str(path))
    assert read_znn(str(path)) == zoo.n4()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory; check the path of the network"),
        (b"\xff\xfe\x00", "not a text file; give a .znn file"),
        (b"nodes a\n", "node group 'a' (line 1): key 'type' is missing"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "net.znn"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NetworkError) as error:
        read_znn(path)
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("my key", "1"), "option 'my key' = '1' is not two words; change it"),
        (("key", "1 2"), "option 'key' = '1 2' is not two words; change it"),
        (
            ("nodes", "x"),
            "option 'nodes' = 'x' has another meaning in a .znn file; rename it",
        ),
        (("size", "9"), "option 'size' = '9' has another meaning in a .znn file; rename it"),
    ],
)
def test_options_that_cannot_be_written(
    tmp_path: Path, option: tuple[str, str], message: str
) -> None:
    net = zoo.small3d()
    node = replace(net.nodes[0], options=(option,))
    broken = Network((node, *net.nodes[1:]), net.edges)
    path = tmp_path / "net.znn"
    write_znn(net, path)
    with pytest.raises(NetworkError, match="node group 'input': ") as error:
        write_znn(broken, path)
    assert str(error.value).endswith(message)
    assert read_znn(path) == net


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.znn"
    write_znn(zoo.small3d(), path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_znn(zoo.n4(), path)
    assert read_znn(path) == zoo.small3d()
    assert list(tmp_path.iterdir()) == [path]


def test_every_network_of_the_original_is_read_and_possible(shared: Path) -> None:
    files = sorted((shared / "znn").rglob("*.znn"))
    assert len(files) >= 35
    for file in files:
        net = read_znn(file)
        assert parse_znn(format_znn(net)) == net, file
        assert net.output_size(net.input_sizes((2, 3, 4))) == (2, 3, 4), file


Builder = Callable[[], Network]


@pytest.mark.parametrize(
    ("name", "build"), [("N4_relu", zoo.n4), ("VD2D", zoo.vd2d), ("VD2D3D", zoo.vd2d3d)]
)
def test_zoo_networks_are_those_of_the_original(shared: Path, name: str, build: Builder) -> None:
    def groups(net: Network) -> set[NodeGroup | EdgeGroup]:
        return {replace(group, options=()) for group in (*net.nodes, *net.edges)}

    assert groups(build()) == groups(read_znn(shared / "znn" / "networks" / f"{name}.znn"))
