"""Skeletons in files: SWC, and Neuroglancer's precomputed skeletons."""

from pathlib import Path
from typing import Literal, get_args

import numpy as np

from znn_dask.neurons.files import write_json, write_whole
from znn_dask.neurons.skeleton import Skeleton

Format = Literal["swc", "precomputed"]
FORMATS = get_args(Format)


def skeleton_file(number: int, format: Format) -> str:
    """Name of the file of an object."""
    return f"{number}.swc" if format == "swc" else str(number)


def write_skeleton(folder: Path, skeleton: Skeleton, format: Format) -> None:
    """Write a skeleton into a folder; its file appears whole. SWC is in µm, precomputed in nm."""
    content = _swc(skeleton).encode("ascii") if format == "swc" else _precomputed(skeleton)
    target = folder / skeleton_file(skeleton.number, format)
    write_whole(target, lambda path: path.write_bytes(content))


def _swc(skeleton: Skeleton) -> str:
    lines = ["# lengths in micrometres", "# vertex type x y z radius parent"]
    rows = zip(skeleton.vertices / 1000, skeleton.radii / 1000, skeleton.parents, strict=True)
    for k, ((x, y, z), radius, parent) in enumerate(rows, 1):
        above = parent + 1 if parent >= 0 else -1
        lines.append(f"{k} 0 {x:.5f} {y:.5f} {z:.5f} {radius:.5f} {above}")
    return "\n".join(lines) + "\n"


def _precomputed(skeleton: Skeleton) -> bytes:
    edges = skeleton.edges
    return b"".join(
        [
            np.array([len(skeleton.vertices), len(edges)], "<u4").tobytes(),
            skeleton.vertices.astype("<f4").tobytes(),
            edges.astype("<u4").tobytes(),
            skeleton.radii.astype("<f4").tobytes(),
        ]
    )


def write_info(folder: Path) -> None:
    """What tells Neuroglancer that the folder holds skeletons."""
    radius = {"id": "radius", "data_type": "float32", "num_components": 1}
    transform = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]
    info = {"@type": "neuroglancer_skeletons", "transform": transform}
    write_json(folder / "info", info | {"vertex_attributes": [radius]})


def read_skeleton(folder: Path, number: int, format: Format) -> Skeleton:
    """A skeleton that `write_skeleton` has written."""
    path = folder / skeleton_file(number, format)
    if format == "swc":
        lines = path.read_text(encoding="ascii").splitlines()
        rows = np.array([line.split() for line in lines if line[:1] != "#"], np.float64)
        rows = rows.reshape(-1, 7)
        parents = np.where(rows[:, 6] < 0, -1, rows[:, 6] - 1).astype(np.int64)
        scaled = (1000 * rows[:, 2:6]).astype(np.float32)
        return Skeleton(number, scaled[:, :3], scaled[:, 3], parents)
    content = path.read_bytes()
    n, m = (int(k) for k in np.frombuffer(content, "<u4", 2))
    vertices = np.frombuffer(content, "<f4", 3 * n, 8).reshape(n, 3)
    edges = np.frombuffer(content, "<u4", 2 * m, 8 + 12 * n).reshape(m, 2).astype(np.int64)
    parents = np.full(n, -1, np.int64)
    parents[edges[:, 0]] = edges[:, 1]
    radii = np.frombuffer(content, "<f4", n, 8 + 12 * n + 8 * m)
    return Skeleton(number, vertices, radii, parents)
