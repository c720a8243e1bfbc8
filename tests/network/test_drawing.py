"""The picture is well-formed, complete, and nothing in it overlaps."""

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.network import EdgeGroup, Network, NodeGroup, draw, read_znn, zoo
from znn_dask.network.layout import arrange

SVG = "{http://www.w3.org/2000/svg}"

BRANCHED = (
    Network()
    .input()
    .conv("a", 8, 3)
    .conv("b", 8, 3)
    .conv("c", 8, (1, 3, 3))
    .conv("d", 8, (3, 1, 1))
    .crop("skip", 2, source="na")
    .sum("s", "nd", "nskip")
    .conv("x", 1, 1, "logistics", node="boundary")
    .conv("y", 3, 1, "forward_logistics", node="affinity", source="s")
)


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    tree = ElementTree.fromstring(svg)
    rects = [g.find(f"{SVG}rect") for g in tree.iter(f"{SVG}g") if "box" in g.get("class", "")]
    return [
        tuple(float(rect.get(key, "nan")) for key in ("x", "y", "width", "height"))
        for rect in rects
        if rect is not None
    ]


def text(svg: str) -> str:
    return " ".join(" ".join(ElementTree.fromstring(svg).itertext()).split())


@pytest.mark.parametrize("net", [zoo.n4(), zoo.vd2d3d(), zoo.em3d(), BRANCHED])
def test_boxes_are_apart_and_inside(net: Network) -> None:
    svg = draw(net)
    found = boxes(svg)
    assert len(found) == len(net.nodes)
    for (xa, ya, wa, ha), (xb, yb, wb, hb) in combinations(found, 2):
        assert xa + wa <= xb or xb + wb <= xa or ya + ha <= yb or yb + hb <= ya
    root = ElementTree.fromstring(svg)
    shift = re.search(r"translate\(([\d.]+)\)", svg)
    assert shift is not None
    for x, y, w, h in found:
        assert x + float(shift[1]) >= 0
        assert x + float(shift[1]) + w <= float(root.get("width", "nan"))
        assert 0 <= y < y + h <= float(root.get("height", "nan"))


def test_it_says_what_the_network_is() -> None:
    said = text(draw(zoo.vd2d3d(), (4, 32, 32)))
    for words in (
        "field of view 5×85×85",
        "296,486 parameters",
        "for an output of 4×32×32",
        "1 map · 8×116×116 · input",
        "nconv4a 60 maps · 6×64×64 · rectify_linear",
        "conv4a conv 2×3×3 dilation 1×8×8",
        "pool3 max filter 2×2×2 dilation 1×4×4, stride 1×2×2",
        "dropout keep 0.5",
    ):
        assert words in said
    assert "convx conv 1×1×1 dilation" not in said  # one voxel has nothing to dilate
    said = text(draw(BRANCHED))
    assert "skip crop 2×2×2" in said
    assert "nskip-s dummy" in said
    assert "affinity 3 maps · 1×1×1 · forward_logistics" in said


def test_names_are_escaped() -> None:
    net = Network().input('<in&"put">').conv("a<b", 1, 1, "tanh")
    assert '<in&"put">' in text(draw(net))
    assert "a<b" in text(draw(net))


def test_other_operations_are_drawn() -> None:
    nodes = (NodeGroup("i", "input", 2), NodeGroup("p", "sum", 2, dense=True))
    pooled = Network(nodes, (EdgeGroup("e", "max_pool", "i", "p", (1, 2, 2)),))
    assert "e max pool 1×2×2" in text(draw(pooled))
    assert "sum, dense" in text(draw(pooled))
    tied = Network().input().conv("c", 1, (1, 4, 4), repeat=(1, 2, 2))
    assert "conv 1×4×4 repeat 1×2×2" in text(draw(tied))


def test_notebooks_show_it() -> None:
    html = zoo.small3d()._repr_html_()
    assert html is not None
    assert "<svg" in html
    unfinished = Network().input()
    assert "unfinished" in str(unfinished._repr_html_())
    assert "unfinished" in repr(unfinished)
    assert "field of view" in repr(zoo.small3d())


def test_every_network_of_the_original_can_be_drawn(shared: Path) -> None:
    for file in (shared / "znn" / "networks").glob("*.znn"):
        assert len(boxes(draw(read_znn(file)))) == len(read_znn(file).nodes)


@settings(deadline=None)
@given(st.data())
def test_layout_of_random_graphs(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 9))
    nodes = [NodeGroup(str(i), "sum", 1) for i in range(count)]
    pairs = data.draw(
        st.lists(st.sampled_from(list(combinations(range(count), 2))), max_size=12, unique=True)
    )
    edges = [EdgeGroup(f"{a}-{b}", "dummy", str(a), str(b)) for a, b in pairs]
    layout = arrange(nodes, edges, 100.0)
    places = [(layout.x[n.name], layout.layer[n.name]) for n in nodes]
    for edge in edges:
        assert layout.layer[edge.input] < layout.layer[edge.output]
        assert len(layout.passes[edge.name]) == (
            layout.layer[edge.output] - layout.layer[edge.input] - 1
        )
        places += layout.passes[edge.name]
    for (xa, layer_a), (xb, layer_b) in combinations(places, 2):
        assert layer_a != layer_b or abs(xa - xb) >= 100 - 1e-6
