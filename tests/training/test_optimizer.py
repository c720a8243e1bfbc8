"""SGD settings: annealing, ranges, round trip."""

import math
from pathlib import Path

import h5py
import numpy as np
import pytest

from znn_dask.training.optimizer import SGD


def test_eta_is_annealed_after_every_full_period():
    sgd = SGD(0.01, anneal_factor=0.5, anneal_every=3)
    etas = [sgd.eta_at(step) for step in range(8)]
    assert etas == [0.01, 0.01, 0.01, 0.005, 0.005, 0.005, 0.0025, 0.0025]


def test_eta_is_a_pure_function_of_the_step():
    sgd = SGD(0.01, anneal_factor=0.997, anneal_every=2)
    forwards = [sgd.eta_at(step) for step in range(50)]
    backwards = [sgd.eta_at(step) for step in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert SGD(0.3).eta_at(10**9) == 0.3


def test_eta_agrees_with_updates_of_the_original(shared: Path):
    """Its output biases: velocity = momentum * velocity - eta / voxels * sum(gradient)."""
    folder = shared / "znn" / "golden_training" / "affinity"
    sgd = SGD(0.01, momentum=0.9, anneal_factor=0.997, anneal_every=2)
    root = "processing/znn/train"
    for step in range(5):
        before = "init" if step == 0 else str(step)
        with (
            h5py.File(folder / f"net_{before}.h5") as previous,
            h5py.File(folder / f"net_{step + 1}.h5") as current,
        ):
            key = f"{root}/network/output/momentum_vol"
            old = previous[key][...].astype(np.float64)
            new = current[key][...].astype(np.float64)
            gradient = current[f"{root}/patch/grdts/output"][...].astype(np.float64)
        voxels = gradient[0].size
        eta = (0.9 * old - new) * voxels / gradient.sum(axis=(1, 2, 3))
        np.testing.assert_allclose(eta, sgd.eta_at(step), rtol=2e-5)


def test_settings_round_trip():
    sgd = SGD(0.02, momentum=0.9, weight_decay=1e-4, anneal_factor=0.997, anneal_every=100)
    assert sgd.to_dict()["kind"] == "sgd"
    assert SGD.from_dict(sgd.to_dict()) == sgd


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eta": 0.0}, "SGD: eta must be positive and finite, got 0.0"),
        ({"eta": math.nan}, "SGD: eta must be positive and finite, got nan"),
        ({"eta": "fast"}, "SGD: eta must be a number, got 'fast'"),
        ({"eta": 1, "momentum": 1.0}, "SGD: momentum must be at least 0 and below 1, got 1.0"),
        (
            {"eta": 1, "weight_decay": -1.0},
            "SGD: weight_decay must be finite and not negative, got -1.0",
        ),
        ({"eta": 1, "anneal_factor": 1.5}, "SGD: anneal_factor must be in (0, 1], got 1.5"),
        ({"eta": 1, "anneal_every": 0}, "SGD: anneal_every must be at least 1, got 0"),
        ({"eta": 1, "anneal_every": 1.5}, "SGD: anneal_every must be an integer, got 1.5"),
        ({"kind": "adam", "eta": 1}, "SGD: settings are for optimizer 'adam', expected \"sgd\""),
        ({"momentum": 0.9}, "SGD: settings without eta, got momentum"),
    ],
)
def test_bad_settings_name_value_and_range(settings, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        SGD.from_dict(settings)
    assert str(caught.value) == message


def test_unknown_setting_and_negative_step():
    with pytest.raises(ValueError, match=r"unknown setting nesterov = True; known: eta, momentum"):
        SGD.from_dict({"eta": 1, "nesterov": True})
    with pytest.raises(ValueError, match=r"at least 0, got -1"):
        SGD(0.1).eta_at(-1)
