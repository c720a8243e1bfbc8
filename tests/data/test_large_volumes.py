"""Volumes never pass through the memory of a process: peaks of processes that copy larger ones."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore
import tifffile
import zarr

SHAPE = (512, 1024, 1024)  # 512 MB
LIMIT = 200  # MB that a process may grow by

MEASURED = """
import resource, sys
from znn_dask.data.exporting import export_tiff
from znn_dask.data.importing import import_image
from znn_dask.data.precomputed import export_precomputed
from znn_dask.data.pyramid import build_pyramid
from znn_dask.data.preprocessing import Preprocessing
from znn_dask.data.volume import open_array
import h5py, tensorstore, tifffile
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
{}
print(peak() - before)
"""


def grown(statement: str) -> int:
    """MB by which the peak of a process exceeds what it had when it began `statement`."""
    command = [sys.executable, "-c", MEASURED.format(statement)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def tiff(path: Path) -> None:
    tifffile.memmap(path, shape=SHAPE, dtype="u1", bigtiff=True, photometric="minisblack")


def pages(path: Path) -> None:
    """Five slices of 64 MB, each compressed as a whole."""
    plane = np.zeros((8192, 8192), np.uint8)
    plane[::500] = 9
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for _ in range(5):
            writer.write(plane, compression="zlib", rowsperstrip=256, contiguous=False)


def hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("main", SHAPE, "u1", chunks=(16, 128, 128), compression="gzip")


def precomputed(path: Path) -> None:
    specification = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": f"{path}/"},
        "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1},
        "scale_metadata": {
            "size": SHAPE[::-1],
            "resolution": [8, 8, 8],
            "encoding": "raw",
            "chunk_size": [64, 64, 64],
        },
    }
    tensorstore.open(specification, create=True).result()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "name"),
    [(tiff, "a.tif"), (pages, "b.tif"), (hdf5, "a.h5"), (precomputed, "p")],
)
def test_imports(tmp_path: Path, write: Callable[[Path], None], name: str) -> None:
    write(tmp_path / name)
    target = str(tmp_path / "v.zarr")
    source = str(tmp_path / name)
    assert grown(f"import_image({source!r}, {target!r}, progress=False, pyramid=False)") < LIMIT
    array = zarr.open_array(f"{target}/image/0", mode="r")
    assert array.nbytes > 1.25 * LIMIT * 2**20
    assert array.chunks[1:] == (64, 64)


@pytest.mark.slow
def test_everything_else(tmp_path: Path) -> None:
    from znn_dask.data.volume import create_image

    place = tmp_path / "v.zarr"
    create_image(place, "image", SHAPE, "u1")[:, :64, :64] = 1
    image = str(place / "image")
    for statement in (
        f"build_pyramid({image!r}, threads=2)",
        f"export_tiff({image!r}, {str(tmp_path / 'o.tif')!r})",
        f"export_precomputed({image!r}, {str(tmp_path / 'o')!r}, threads=2)",
        f"Preprocessing('symmetric_rescale').fit(open_array({image!r}))",
    ):
        assert grown(statement) < LIMIT, statement
    assert tifffile.memmap(tmp_path / "o.tif", mode="r")[::100, 63:65, 63].tolist() == [[1, 0]] * 6
