"""What a network is: node groups, edge groups, sizes, files, pictures. No arrays, no Dask."""

from znn_dask.network.graph import EdgeGroup, Network, NetworkError, NodeGroup, Triple

__all__ = ["EdgeGroup", "Network", "NetworkError", "NodeGroup", "Triple"]
