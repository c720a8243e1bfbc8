"""A small network with everything that can go wrong in it: a maximum, dilation and dropout."""

from znn_dask.network import Network

NETWORK = (
    Network()
    .input()
    .conv("c1", 4, (1, 5, 5))
    .max_filter("p1", (1, 2, 2), (1, 2, 2))
    .conv("c2", 5, (2, 3, 3), "tanh")
    .dropout("d", 0.8)
    .conv("c3", 2, (1, 1, 1), "linear", node="output")
)
OUTPUT = (2, 6, 6)
