"""A small volume, its training configuration, and ways to run commands."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from znn_dask.cli import main
from znn_dask.data import create_image
from znn_dask.data.synthetic import synthetic_volume
from znn_dask.network import Network, write_znn


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Outcome:
    """A command line in this process."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return Outcome(code, captured.out, captured.err)


def command(*arguments: str | Path) -> list[str]:
    """A command line for a process of its own."""
    start = "import sys; from znn_dask.cli import main; sys.exit(main())"
    return [sys.executable, "-c", start, *map(str, arguments)]


def environment() -> dict[str, str]:
    root = Path(__file__).resolve().parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1"}


def run_process(*arguments: str | Path) -> Outcome:
    done = subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, timeout=200
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def tiny_network() -> Network:
    """Field of view (3, 5, 5), three affinities."""
    return (
        Network()
        .input()
        .conv("c1", 3, (3, 3, 3), "tanh")
        .conv("c2", 3, (1, 3, 3), "forward_logistics", node="output")
    )


def write_volume(path: Path, shape: tuple[int, int, int] = (12, 40, 40)) -> None:
    image, labels = synthetic_volume(shape, seed=3)
    for name, values in (("image", image), ("labels", labels)):
        create_image(path, name, shape, values.dtype, voxel_size=(8.0, 4.0, 4.0))[:] = values
    mask = create_image(path, "seen", shape, np.uint8)
    mask[:] = np.ones(shape, np.uint8)


CONFIG = """
[network]
file = "tiny.znn"
[[data.train]]
volume = "volume.zarr"
mask = "seen"
region = [[0, 12], [0, 40], [0, 24]]
[[data.validation]]
volume = "volume.zarr"
region = [[0, 12], [0, 40], [24, 40]]
[data]
target = "affinity"
[training]
output_size = [2, 6, 6]
updates = 8
validate_every = 4
validation_patches = 2
folder = "checkpoints"
[optimizer]
eta = 0.01
momentum = 0.9
[execution]
threads = 1
"""


def write_project(folder: Path) -> Path:
    """Volume, network and configuration; returns the latter."""
    write_volume(folder / "volume.zarr")
    write_znn(tiny_network(), folder / "tiny.znn")
    (folder / "config.toml").write_text(CONFIG)
    return folder / "config.toml"
