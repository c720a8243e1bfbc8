"""The networks that are measured, each with an output patch.

ZNN's own networks are read from a folder of `.znn` files ($ZNN_NETWORKS); those that are not there
are left out, and it says so. The networks of the scalability study of 2015 are built here.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import znn_dask as znn
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network

FOLDER = Path(
    os.environ.get(
        "ZNN_NETWORKS", Path(__file__).resolve().parents[2] / "shared" / "znn" / "networks"
    )
)

PATCHES: dict[str, Triple] = {
    "slide_3L_w5_k5": (16, 16, 16),
    "slide_3L_w15_k5": (16, 16, 16),
    "slide_3L_w10_k7": (16, 16, 16),
    "slide_4L_w16_k5": (16, 16, 16),
    "wide4_w40_k5_cmcmcc": (16, 16, 16),
    "bench_3d_3": (1, 1, 1),
    "bench_3d_5": (1, 1, 1),
    "bench_3d_7": (1, 1, 1),
    "bench_2d_10": (1, 1, 1),
    "srini2d": (1, 100, 100),
    "N4_relu": (1, 100, 100),
    "VD2D": (1, 64, 64),
    "VD2D3D": (4, 32, 32),
}
SECTION_9 = ",".join(PATCHES)
WIDTHS = (5, 10, 16, 20, 30, 40, 50, 60)


@dataclass(frozen=True)
class Case:
    """A network and its output patch (z, y, x)."""

    name: str
    network: Network
    output_size: Triple


def scalability(width: int, layers: int = 4, kernel: int = 5) -> Network:
    """The network of the 2015 scalability study: `layers` convolutions of one width."""
    net = znn.Network().input()
    for i in range(1, layers + 1):
        net = net.conv(f"conv{i}", width, (kernel,) * 3, "rectify_linear")
    return net


def cases(folder: Path = FOLDER, only: str = "") -> Iterator[Case]:
    """All cases whose name contains one of the comma-separated words of `only` (all if empty)."""
    words = [word for word in only.split(",") if word]
    for name, size in PATCHES.items():
        path = folder / f"{name}.znn"
        if words and not any(word in name for word in words):
            continue
        if path.exists():
            yield Case(name, znn.read_znn(path), size)
        else:
            print(f"{name} left out: {path.name} is not in the networks folder", file=sys.stderr)
    for width in WIDTHS:
        name = f"scalability_4L_w{width}_k5"
        if not words or any(word in name for word in words):
            yield Case(name, scalability(width), (16, 16, 16))
