"""Named networks, as functions that build them.

Each takes the number of output channels and the output function: `linear` for a softmax loss,
`forward_logistics` for the binomial cross-entropy. Affinities are three channels.
"""

from znn_dask.network.graph import Network
from znn_dask.network.groups import NetworkError


def n4(channels: int = 2, function: str = "linear") -> Network:
    """N4, the 2D boundary detector of Ciresan, Giusti, Gambardella and Schmidhuber (2012).

    "Deep neural networks segment neuronal membranes in electron microscopy images", NIPS 2012. Four
    convolutions, each followed by a max-filter, and a classifier; field of view 1,95,95.
    """
    net = Network().input()
    for i, width in enumerate((4, 5, 4, 4), 1):
        net = net.conv(f"conv{i}", 48, (1, width, width), init="xavier")
        net = net.max_filter(f"pool{i}", (1, 2, 2), (1, 2, 2))
    net = net.conv("conv5", 200, (1, 3, 3), init="xavier")
    return net.conv("conv6", channels, 1, function, init="xavier", node="output")


def vd2d(channels: int = 2, function: str = "linear") -> Network:
    """VD2D, the very deep 2D network of Lee, Zlateski, Vishwanathan and Seung (2015).

    "Recursive training of 2D-3D convolutional networks for neuronal boundary detection", NIPS 2015.
    Ten small convolutions and a dropped-out classifier; field of view 1,109,109.
    """
    return (
        Network()
        .input()
        .conv("conv1a", 24, (1, 3, 3))
        .conv("conv1b", 24, (1, 3, 3))
        .conv("conv1c", 24, (1, 2, 2))
        .max_filter("pool1", (1, 2, 2), (1, 2, 2))
        .conv("conv2a", 36, (1, 3, 3))
        .conv("conv2b", 36, (1, 3, 3))
        .max_filter("pool2", (1, 2, 2), (1, 2, 2))
        .conv("conv3a", 48, (1, 3, 3))
        .conv("conv3b", 48, (1, 3, 3))
        .max_filter("pool3", (1, 2, 2), (1, 2, 2))
        .conv("conv4a", 60, (1, 3, 3))
        .conv("conv4b", 60, (1, 3, 3))
        .max_filter("pool4", (1, 2, 2), (1, 2, 2))
        .conv("conv5", 200, (1, 3, 3))
        .dropout("dropout", 0.5)
        .conv("convx", channels, 1, function, init="msra", node="output")
    )


def vd2d3d(channels: int = 2, function: str = "linear") -> Network:
    """VD2D3D, the very deep 2D-3D network of Lee, Zlateski, Vishwanathan and Seung (2015).

    "Recursive training of 2D-3D convolutional networks for neuronal boundary detection", NIPS 2015.
    2D convolutions first, 3D ones at the end; the second input `input-r` takes the boundary map of
    a VD2D network (recursive training). Field of view 5,85,85.
    """
    net = Network().input("input").input("input-r")
    net = net.conv("conv1a", 24, (1, 3, 3), source="input").conv("conv1b", 24, (1, 3, 3))
    net = net.conv("conv1a-r", 24, (1, 3, 3), source="input-r").conv("conv1b-r", 24, (1, 3, 3))
    return (
        net.conv("conv1c", 24, (1, 2, 2), source="nconv1b")
        .conv("conv1c-r", 24, (1, 2, 2), source="nconv1b-r", to="nconv1c")
        .max_filter("pool1", (1, 2, 2), (1, 2, 2))
        .conv("conv2a", 36, (1, 3, 3))
        .conv("conv2b", 36, (1, 3, 3))
        .max_filter("pool2", (1, 2, 2), (1, 2, 2))
        .conv("conv3a", 48, (1, 3, 3))
        .conv("conv3b", 48, (1, 3, 3))
        .max_filter("pool3", (2, 2, 2), (1, 2, 2))
        .conv("conv4a", 60, (2, 3, 3))
        .conv("conv4b", 60, (2, 3, 3))
        .conv("conv4c", 100, (2, 3, 3))
        .dropout("dropout", 0.5)
        .conv("convx", channels, 1, function, init="msra", node="output")
    )


def srini2d(channels: int = 2, function: str = "linear") -> Network:
    """Six 2D convolutions of 7x7, 10 maps each: a ZNN example network.

    In the manner of Turaga et al. (2010), "Convolutional networks can learn to generate affinity
    graphs for image segmentation", Neural Computation 22. Field of view 1,37,37.
    """
    net = Network().input()
    for i in range(1, 6):
        net = net.conv(f"conv{i}", 10, (1, 7, 7))
    return net.conv("conv6", channels, (1, 7, 7), function, node="output")


def small3d(channels: int = 3, function: str = "forward_logistics") -> Network:
    """A small 3D network that a laptop trains in a minute or two; field of view 11,11,11.

    Three convolutions of 8 to 16 maps, two of them 5x5x5, and a classifier of single voxels.
    """
    return (
        Network()
        .input()
        .conv("conv1", 8, 3)
        .conv("conv2", 12, 5)
        .conv("conv3", 16, 5)
        .conv("conv4", channels, 1, function, node="output")
    )


def em3d(channels: int = 3, function: str = "forward_logistics") -> Network:
    """A 3D network for electron microscopy with near-isotropic voxels; field of view 22,22,22.

    Three convolutions of 5x5x5 and one of 3x3x3 with 16 to 32 maps, and a classifier of single
    voxels; a max-filter of stride 2 after the second doubles the reach of those after it.
    """
    return (
        Network()
        .input()
        .conv("conv1", 16, 5)
        .conv("conv2", 24, 5)
        .max_filter("pool1", 2, stride=2)
        .conv("conv3", 32, 5)
        .conv("conv4", 32, 3)
        .conv("conv5", channels, 1, function, node="output")
    )


NETWORKS = {f.__name__: f for f in (n4, vd2d, vd2d3d, srini2d, small3d, em3d)}
"""Name -> the function that builds it."""


def by_name(name: str, channels: int | None = None) -> Network:
    """The network of that name, with so many output channels (its usual number when not given).

    Raises NetworkError for an unknown name.
    """
    if name not in NETWORKS:
        raise NetworkError(f"no network {name!r} in the zoo; it has {', '.join(NETWORKS)}")
    return NETWORKS[name]() if channels is None else NETWORKS[name](channels)
