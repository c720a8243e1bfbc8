"""Networks of every kind, with an output size that makes plans with several blocks."""

from znn_dask.network import Network, zoo

BRANCHED = (
    Network()
    .input("x", 2)
    .input("y", 3)
    .conv("a", 20, (1, 5, 5), source="x", node="na")
    .conv("b", 20, (1, 5, 5), source="y", to="na")
    .max_filter("m", (1, 2, 2), (1, 2, 2))
    .dropout("d", 0.5)
    .conv("c", 16, (3, 5, 5), "tanh", source="nd", node="nc")
    .conv("e", 16, (3, 5, 5), "tanh", source="nd", node="ne")
    .maxout("mo", "nc", "ne")
    .conv("f", 16, (1, 1, 1), source="mo", node="nf")
    .sum("s", "mo", "nf")
    .conv("o", 3, (2, 2, 2), "linear", source="s", node="first")
    .conv("p", 2, (2, 2, 2), "tanh", source="s", node="second")
)

NETWORKS = {
    "tiny": (Network().input().conv("c", 2, (1, 3, 3), "linear", node="output"), (1, 4, 4)),
    "branched": (BRANCHED, (6, 40, 40)),
    "small3d": (zoo.small3d(), (16, 16, 16)),
    "srini2d": (zoo.srini2d(), (1, 60, 60)),
    "pooled": (
        Network()
        .input()
        .conv("c1", 12, (3, 5, 5))
        .max_pool("q", (1, 2, 2))
        .crop("r", (0, 1, 1))
        .conv("c2", 2, (1, 3, 3), "linear", node="output"),
        (4, 30, 30),
    ),
}
