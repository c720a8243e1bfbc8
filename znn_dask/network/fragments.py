"""Which voxels of a map are computed.

Convolutions after a stride are dilated: one output voxel reads every s-th voxel of such a map. A
map of dilation s consists of s interleaved fragments along each axis, and an output patch of n < s
voxels reads n of them. The others need not be computed::

    dilation 4, patch of 1      x . . . x . . . x        kept as   x x x
    dilation 4, patch of 2      a b . . a b . . a b      kept as   a b a b a b, dilation 2
    dilation 4, patch of 4      a b c d a b c d a b c d  kept as it is

What is kept is a map again, whose dilation is the number of its fragments. With a patch of one
voxel a max-filter of stride s is then the max-pooling of the network that was slid over the image.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from znn_dask.network.geometry import triple
from znn_dask.network.graph import Network
from znn_dask.network.groups import ONE, EdgeGroup, Triple


@dataclass(frozen=True)
class ComputedMaps:
    """The maps of a network as they are computed.

    Attributes
    ----------
    sizes
        Node group -> voxels (z, y, x) of its map.
    dilations
        Node group -> distance (z, y, x) of the voxels that one window of a convolution reads.
    """

    sizes: Mapping[str, Triple]
    dilations: Mapping[str, Triple]

    def windows(self, edge: EdgeGroup) -> tuple[Triple, Triple]:
        """(stride, fragments) of a max-filter: windows of so many voxels side by side are taken at
        every stride-th voxel; (1, 1) along an axis where they are taken at every voxel."""
        before, after = self.dilations[edge.input], self.dilations[edge.output]
        axes = [
            (d * s, n) if n < d * s else (1, 1)
            for d, s, n in zip(before, edge.stride, after, strict=True)
        ]
        strides, fragments = zip(*axes, strict=True)
        return triple(strides), triple(fragments)


def computed_maps(network: Network, output_size: Triple, fragments: bool) -> ComputedMaps:
    """Every voxel of every map, or only the `fragments` that the output patch reads.

    Every voxel also where the network has crops, strided convolutions, or node groups that are
    dense: then what is read are not whole fragments.
    """
    sizes = network.sizes(output_size)
    dilations = {node.name: network.dilation(node.name) for node in network.nodes}
    if fragments and _reads_fragments(network):
        for name, size in sizes.items():
            kept = [
                (n, s) if patch >= s else ((n - patch) // s * patch + patch, patch)
                for n, s, patch in zip(size, dilations[name], output_size, strict=True)
            ]
            sizes[name], dilations[name] = (triple(values) for values in zip(*kept, strict=True))
    return ComputedMaps(sizes, dilations)


def _reads_fragments(network: Network) -> bool:
    return all(map(_keeps_fragments, network.edges)) and not any(n.dense for n in network.nodes)


def _keeps_fragments(edge: EdgeGroup) -> bool:
    if edge.type == "max_filter":
        return all(k > 1 or s == 1 for k, s in zip(edge.size, edge.stride, strict=True))
    return edge.type != "crop" and (edge.type != "conv" or edge.stride == ONE)
