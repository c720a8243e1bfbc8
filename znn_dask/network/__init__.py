"""What a network is: node groups, edge groups, sizes, files, pictures. No arrays, no Dask."""

from znn_dask.network import zoo
from znn_dask.network.drawing import draw
from znn_dask.network.graph import Network
from znn_dask.network.groups import EdgeGroup, NetworkError, NodeGroup, Triple
from znn_dask.network.table import describe
from znn_dask.network.znn_text import format_znn, parse_znn, read_znn, write_znn

__all__ = [
    "EdgeGroup",
    "Network",
    "NetworkError",
    "NodeGroup",
    "Triple",
    "describe",
    "draw",
    "format_znn",
    "parse_znn",
    "read_znn",
    "write_znn",
    "zoo",
]
