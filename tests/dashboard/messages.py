"""Messages as drivers send them, and figures as workers do."""

import zlib
from typing import Any

import numpy as np

from znn_dask.dashboard.board import WorkerFigures


def training(step: int = 10, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "training",
        "id": "training-1",
        "client": "client-1",
        "state": "running",
        "title": "run",
        "folder": "runs/run",
        "job": "job-1",
        "first": 0,
        "last": 100,
        "voxels": 1000,
        "loss_name": "softmax",
        "layers": [["nc1", ["c1"]], ["np1", ["p1"]]],
        "began": 0.0,
        "step": step,
        "eta": 0.01,
        "train": {"step": [step], "loss": [0.5]},
        "validation": {"step": [], "loss": []},
        "best": None,
        "saved": 0,
        "message": "",
        **changes,
    }


def prediction(done: list[int], grid: tuple[int, int, int] = (2, 3, 4), **changes: Any) -> Any:
    bits = np.zeros(grid[0] * grid[1] * grid[2], bool)
    bits[done] = True
    return {
        "kind": "prediction",
        "id": "prediction-1",
        "client": "client-1",
        "state": "running",
        "title": "map.zarr",
        "place": "maps/map.zarr",
        "job": "run1",
        "grid": list(grid),
        "block": [8, 10, 10],
        "shape": [8 * grid[0], 10 * grid[1], 10 * grid[2]],
        "earlier": 0,
        "began": 0.0,
        "done": zlib.compress(np.packbits(bits).tobytes()),
        "message": "",
        **changes,
    }


def worker(
    address: str = "tcp://127.0.0.1:1",
    process: str = "1-a",
    engines: dict[str, Any] | None = None,
    seconds: dict[str, Any] | None = None,
    spectra: dict[str, int] | None = None,
) -> WorkerFigures:
    figures = {
        "process": process,
        "host": "here",
        "engines": engines or {},
        "seconds": seconds or {},
        "spectra": spectra or {},
    }
    return WorkerFigures(address, 2, 10**8, 10**9, figures)
