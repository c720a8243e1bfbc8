"""Turning what the user gives `predict` into exact values, or one line that says what is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import zarr
from dask.utils import parse_bytes

from znn_dask.data.metadata import VoxelSize
from znn_dask.data.volume import Volume, describe_array, open_array
from znn_dask.inference.augment import AFFINITY_CHANNELS, Variant, variants
from znn_dask.inference.blocks import AXES, Box, PredictionError, Triple, triple
from znn_dask.network import Network, NodeGroup

OutputType = Literal["float32", "float64", "uint8"]

# Functions whose values lie between 0 and 1, as uint8 output needs.
PROBABILITIES = ("logistics", "forward_logistics")


def resolve_images(image: Any, network: Network) -> dict[str, Any]:
    """One array (z,y,x) or (c,z,y,x) for each input node, all over the same voxels."""
    names = [node.name for node in network.inputs]
    given = dict(image) if isinstance(image, Mapping) else dict.fromkeys(names, image)
    if set(given) != set(names):
        raise PredictionError(
            f"images are given for {', '.join(given) or 'nothing'} but the network's inputs are "
            f"{', '.join(names)}: give one for each"
        )
    images = {name: _open(given[name]) for name in names}
    for node in network.inputs:
        array = images[node.name]
        if array.ndim not in (3, 4):
            raise PredictionError(
                f"the image has {array.ndim} axes: give one with axes z,y,x or c,z,y,x"
            )
        channels = 1 if array.ndim == 3 else array.shape[0]
        if channels != node.size:
            raise PredictionError(
                f"the image has {channels} channels but input {node.name!r} of the network takes "
                f"{node.size}: give an image with {node.size}"
            )
        first = images[names[0]]
        if array.shape[-3:] != first.shape[-3:]:
            raise PredictionError(
                f"image {node.name!r} is {array.shape[-3:]} voxels but {names[0]!r} is "
                f"{first.shape[-3:]}: give images of equal shape"
            )
    return images


def _open(image: Any) -> Any:
    if isinstance(image, Volume):
        if image.image is None:
            raise PredictionError(f"{image.path} has no image in it: import one first")
        return image.image
    if isinstance(image, zarr.Array | np.ndarray):
        return image
    return open_array(absolute(image))


def absolute(location: str | Path) -> str:
    """A path that means the same in every working directory, as workers need it; URLs stay."""
    text = str(location)
    return text if "://" in text else str(Path(text).absolute())


def voxel_size(image: Any) -> VoxelSize:
    """(z,y,x) in nm; 1 for arrays that do not say."""
    if isinstance(image, zarr.Array):
        return describe_array(image).voxel_size
    return (1.0, 1.0, 1.0)


def dense(network: Network) -> Network:
    """The network that gives at every voxel what `network`, slid over the image, gives there.

    A max-pooling becomes a max-filter of the same window and stride, so what follows is dilated;
    the parameters are the same.
    """
    edges = tuple(
        replace(edge, type="max_filter", stride=edge.size) if edge.type == "max_pool" else edge
        for edge in network.edges
    )
    return Network(network.nodes, edges)


def resolve_fields(network: Network) -> dict[str, Triple]:
    """Field of view of each input node of a dense network."""
    return network.input_sizes((1, 1, 1))


def resolve_output(network: Network, name: str | None) -> NodeGroup:
    """The output node to write."""
    names = [node.name for node in network.outputs]
    if name is None and len(names) == 1:
        return network.outputs[0]
    if name is None or name not in names:
        asked = "none is chosen" if name is None else f"{name!r} is not one of them"
        raise PredictionError(
            f"the network's outputs are {', '.join(names)} and {asked}: give output=NAME"
        )
    return network.node(name)


def resolve_variants(
    augment: bool | int, fields: Mapping[str, Triple], output: NodeGroup, affinity: bool
) -> tuple[Variant, ...]:
    """The flips (8, or fewer where the network sees a single slice) and transposes (16)."""
    if augment is False or augment == 0:
        return (Variant(),)
    if augment is not True and augment not in (8, 16):
        raise PredictionError(
            f"augment is {augment}: give False, 8 (flips; so does True) or 16 (with transposes)"
        )
    if affinity and output.size != AFFINITY_CHANNELS:
        raise PredictionError(
            f"augment flips affinities of {AFFINITY_CHANNELS} channels x, y, z but the network has "
            f"{output.size}: predict with augment=False"
        )
    transpose = augment is not True and augment == 16
    if transpose and any(y != x for _, y, x in fields.values()):
        fov = next(f for f in fields.values() if f[1] != f[2])
        raise PredictionError(
            f"augment=16 transposes y and x but the field of view {fov} differs in them: "
            "give augment=8"
        )
    # Where one slice is seen at a time, turning the order of slices round changes nothing.
    z, y, x = (any(fov[axis] > 1 for fov in fields.values()) for axis in range(3))
    return variants((z, y, x), transpose)


def check_dtype(dtype: str, softmax: bool, output: NodeGroup) -> None:
    """Refuse output types that cannot hold the network's values."""
    if dtype not in get_args(OutputType):
        raise PredictionError(f"dtype is {dtype!r}: give 'float32', 'float64' or 'uint8'")
    if dtype == "uint8" and not softmax and output.function not in PROBABILITIES:
        raise PredictionError(
            f"dtype='uint8' holds 0 to 1 but the function of output {output.name!r} is "
            f"{output.function}: give dtype='float32'"
        )


def resolve_region(region: Any, shape: Triple) -> Box | None:
    """Three slices or (start, stop) pairs over the image, z,y,x, as a box of plain ints."""
    if region is None:
        return None
    parts: Sequence[Any] = tuple(region)
    if len(parts) != 3:
        raise PredictionError(f"region has {len(parts)} axes: give three, z,y,x")
    sides = []
    for axis, part, length in zip(AXES, parts, shape, strict=True):
        side = part if isinstance(part, slice) else slice(*part)
        if side.step not in (None, 1):
            raise PredictionError(
                f"region takes every {side.step}th voxel along {axis}: give a step of 1"
            )
        start = 0 if side.start is None else int(side.start)
        sides.append(slice(start, length if side.stop is None else int(side.stop)))
    z, y, x = sides
    return z, y, x


def resolve_shape(name: str, shape: Any, output_shape: Triple) -> Triple | None:
    """A block or chunk shape, no larger than the output."""
    if shape is None:
        return None
    parts = tuple(shape)
    if len(parts) != 3 or min(parts) < 1:
        raise PredictionError(f"{name} is {parts}: give three positive numbers z,y,x")
    return triple(min(int(p), n) for p, n in zip(parts, output_shape, strict=True))


def resolve_bytes(memory_limit: int | str | None) -> int | None:
    """Bytes, from a number or from text such as "4 GiB"."""
    if memory_limit is None:
        return None
    try:
        size = int(parse_bytes(memory_limit))
    except ValueError:
        size = 0
    if size < 1:
        raise PredictionError(
            f"memory_limit is {memory_limit!r}: give bytes, such as 4000000000 or '4 GB'"
        )
    return size
