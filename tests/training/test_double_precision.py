"""Training in float64: parameters, momenta, checkpoints, and what is predicted from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from small_network import NETWORK, OUTPUT
from striped_volume import write_volume

from znn_dask.cluster.local import local_cluster
from znn_dask.data.volume import open_array
from znn_dask.inference import predict
from znn_dask.training.checkpoint import load_checkpoint
from znn_dask.training.optimizer import SGD
from znn_dask.training.state import CheckpointState
from znn_dask.training.trainer import Trainer

LOSSES = ("softmax", "binomial", "square", "square-square")


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volume(tmp_path_factory.mktemp("data") / "v.zarr")


@pytest.fixture(scope="module")
def client():
    with local_cluster(2, dashboard=False) as client:
        yield client


def trained(
    volume: Path, client: Client, folder: Path, updates: int, dtype: str, **settings: Any
) -> CheckpointState:
    trainer = Trainer(
        *(NETWORK, volume, OUTPUT),
        **{"optimizer": SGD(0.02, momentum=0.9), "seed": 4, "dtype": dtype, "folder": folder},
        **{"client": client, "progress": False, **settings},
    )
    trainer.fit(updates)
    return load_checkpoint(folder)


@pytest.mark.parametrize("loss", LOSSES)
def test_float32_follows_float64(volume: Path, client: Client, tmp_path: Path, loss: str):
    double = trained(volume, client, tmp_path / "double", 8, "float64", loss=loss)
    single = trained(volume, client, tmp_path / "single", 8, "float32", loss=loss)
    assert {p.dtype for p in (*double.parameters.values(), *double.momenta.values())} == {
        np.dtype(np.float64)
    }
    for name, exact in double.parameters.items():
        assert np.linalg.norm(single.parameters[name] - exact) < 1e-5 * np.linalg.norm(exact), name
    losses, exact_losses = (s.curve.train.column("loss") for s in (single, double))
    np.testing.assert_allclose(losses, exact_losses, rtol=1e-5)


def test_going_on_in_float64_gives_the_same_bits(volume: Path, client: Client, tmp_path: Path):
    straight = trained(volume, client, tmp_path / "straight", 6, "float64")
    trained(volume, client, tmp_path / "begun", 3, "float64")
    begun = tmp_path / "begun"
    ended = trained(volume, client, begun, 6, "float64", resume=begun)
    for name, values in straight.parameters.items():
        assert values.tobytes() == ended.parameters[name].tobytes(), name


def test_going_on_in_another_precision_is_refused(volume: Path, client: Client, tmp_path: Path):
    folder = tmp_path / "c"
    trained(volume, client, folder, 1, "float64")
    with pytest.raises(ValueError, match="dtype is float32, the checkpoint has float64; give"):
        trained(volume, client, folder, 2, "float32", resume=folder)


def test_prediction_from_a_float64_checkpoint(volume: Path, client: Client, tmp_path: Path):
    trained(volume, client, tmp_path / "c", 2, "float64")
    maps = {}
    for dtype in ("float32", "float64"):
        out = tmp_path / f"{dtype}.zarr"
        predict(tmp_path / "c", volume / "image", out, dtype=dtype, client=client, progress=False)
        maps[dtype] = open_array(out)
        assert maps[dtype].dtype == np.dtype(dtype)
    single, double = (maps[dtype][:] for dtype in ("float32", "float64"))
    assert np.linalg.norm(single - double) < 1e-5 * np.linalg.norm(double)
