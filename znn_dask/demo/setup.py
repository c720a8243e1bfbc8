"""What the demo works on: volume, split, network, configuration."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from znn_dask.data import VolumeError, create_image, open_volume
from znn_dask.data.metadata import VoxelSize
from znn_dask.data.synthetic import synthetic_volume
from znn_dask.network import Network, write_znn
from znn_dask.segmentation.maps import Region

SHAPE = (56, 128, 512)
SYNTHETIC_SEED = 7
OUTPUT_SIZE = (20, 20, 20)

_HEADER = "# Written by znn-dask demo."
_MADE = ("volume.zarr", "checkpoints", "map.zarr", "objects.zarr")
_LARGEST = (64, 192, 192)  # voxels z, y, x of the held-out part that are looked at
_MEMBRANE_SHARE = 0.1
_ANISOTROPIC = 2.5  # slices thicker than that: kernels look at few of them


@dataclass(frozen=True)
class Split:
    """Where the demo learns, chooses thresholds, and is judged: boxes z, y, x of the volume.

    train | tuning | test along x: 9 : 3 : 4. The test box is never seen before the end.
    """

    train: Region
    tuning: Region
    test: Region

    @property
    def predicted(self) -> Region:
        """Tuning and test box together."""
        z, y, x = self.test
        return z, y, slice(self.tuning[2].start, x.stop)

    @property
    def test_in_map(self) -> Region:
        """The test box in voxels of a map of `predicted`."""
        z, y, x = self.test
        begin = self.tuning[2].start
        return (
            slice(0, z.stop - z.start),
            slice(0, y.stop - y.start),
            slice(x.start - begin, x.stop - begin),
        )


def split(shape: tuple[int, ...]) -> Split:
    """Boxes of a volume of `shape` (z, y, x); the last quarter along x is held out.

    Of a large volume the middle of y and z is judged, and as much along x as is quickly predicted.
    """
    depth, height, width = shape
    z, y = (_middle(n, most) for n, most in zip((depth, height), _LARGEST, strict=False))
    held = width * 3 // 4
    tuned = held - min(width * 3 // 16, _LARGEST[2])
    every = slice(0, depth), slice(0, height)
    return Split(
        (*every, slice(0, tuned)),
        (z, y, slice(tuned, held)),
        (z, y, slice(held, min(width, held + _LARGEST[2]))),
    )


def prepare_folder(out: Path) -> None:
    """An empty folder, or one of an earlier demo without what that made.

    Raises ValueError when something else is there.
    """
    config = out / "config.toml"
    ours = config.is_file() and config.read_text(encoding="utf-8").startswith(_HEADER)
    if out.exists() and not ours and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} holds something else than a demo; choose another folder as --out")
    for name in _MADE:
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    config.write_text(f"{_HEADER}\n", encoding="utf-8")


def make_volume(path: Path, shape: tuple[int, int, int]) -> None:
    """Synthetic electron microscopy with labels."""
    image, labels = synthetic_volume(shape, SYNTHETIC_SEED)
    for name, values in (("image", image), ("labels", labels)):
        create_image(path, name, values.shape, values.dtype, voxel_size=(8, 8, 8))[:] = values


def check_volume(path: str) -> tuple[tuple[int, ...], VoxelSize]:
    """Shape (z, y, x) and voxel size of a volume that has image and labels.

    Raises VolumeError when it has not, or has more than one channel.
    """
    volume = open_volume(path)
    image, labels = volume["image"], volume["labels"]
    if image.ndim != 3 or image.shape != labels.shape:
        raise VolumeError(
            f"{path}: the demo needs image and labels (z,y,x) of one shape, they have "
            f"{image.shape} and {labels.shape}"
        )
    return image.shape, volume.voxel_size


def in_plane(voxel_size: VoxelSize) -> bool:
    """Whether slices are so thick that each is segmented and judged by itself."""
    return voxel_size[0] > _ANISOTROPIC * min(voxel_size[1:])


def demo_network(voxel_size: VoxelSize) -> Network:
    """A small network for affinities that sees about 20 voxels in plane.

    Where slices are thick it looks at few of them.
    """
    thick = in_plane(voxel_size)
    thin, deep = (1, 3) if thick else (3, 5)
    pool = (1, 2, 2) if thick else (2, 2, 2)
    return (
        Network()
        .input()
        .conv("conv1", 8, (thin, 3, 3))
        .conv("conv2", 12, (thin if thick else deep, 5, 5))
        .max_filter("pool1", pool, stride=pool)
        .conv("conv3", 16, (deep, 5, 5))
        .conv("conv4", 3, 1, "forward_logistics", node="output")
    )


def write_config(out: Path, volume: str, parts: Split, voxel_size: VoxelSize, updates: int) -> Path:
    """`network.znn` and `config.toml` for `znn-dask train`; returns the latter."""
    network = demo_network(voxel_size)
    write_znn(network, out / "network.znn")
    thick = in_plane(voxel_size)
    needed = network.input_sizes((1, 1, 1))["input"]
    size = [
        max(1, min(n, s.stop - s.start - f))
        for n, s, f in zip((8, 32, 32) if thick else OUTPUT_SIZE, parts.tuning, needed, strict=True)
    ]
    path = out / "config.toml"
    path.write_text(
        f"""{_HEADER} Go on with: znn-dask train {path} --resume
[network]
file = "network.znn"

[[data.train]]
volume = "{_toml(volume)}"
region = {_bounds(parts.train)}

[[data.validation]]
volume = "{_toml(volume)}"
region = {_bounds(parts.tuning)}

[data]
target = "affinity"
preprocessing = "{"standard2D" if thick else "standard3D"}"
rebalance = "{"none" if _has_membranes(volume, parts) else "global"}"

[training]
output_size = {size}
updates = {updates}
validate_every = {max(1, updates // 5)}
validation_patches = 24
checkpoint_every = {max(1, updates // 5)}
folder = "checkpoints"

[optimizer]
eta = 0.004
momentum = 0.9
anneal_factor = 0.5
anneal_every = {max(1, updates // 4)}
""",
        encoding="utf-8",
    )
    return path


def _has_membranes(volume: str, parts: Split) -> bool:
    """Whether label 0 lies between the cells. Where cells touch, boundaries are rare: they need
    more weight to be learned in so few updates."""
    labels = np.asarray(open_volume(volume)["labels"][parts.tuning])
    return bool(np.mean(labels == 0) > _MEMBRANE_SHARE)


def _middle(size: int, most: int) -> slice:
    length = min(size, most)
    start = (size - length) // 2
    return slice(start, start + length)


def _bounds(region: Region) -> list[list[int]]:
    return [[part.start, part.stop] for part in region]


def _toml(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"')
