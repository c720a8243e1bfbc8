"""Checkpoints: bit-for-bit round trips, damage, pruning, the best one, remote folders."""

import dataclasses
import json
import math
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import zarr
from training_states import make_state

from znn_dask.training.checkpoint import (
    ABANDONED,
    CheckpointError,
    best,
    latest,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from znn_dask.training.state import CheckpointState


def assert_same(first: CheckpointState, second: CheckpointState) -> None:
    for field in dataclasses.fields(CheckpointState):
        one, two = getattr(first, field.name), getattr(second, field.name)
        if field.name == "curve":
            one, two = one.to_arrays(), two.to_arrays()
        if field.name in ("parameters", "momenta", "curve"):
            assert list(one) == list(two)
            for name in one:
                assert (one[name].dtype, one[name].shape) == (two[name].dtype, two[name].shape)
                assert one[name].tobytes() == two[name].tobytes()
        else:
            assert one == two, field.name


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    if request.param == "local":
        return tmp_path / "checkpoints"
    return f"memory://{uuid.uuid4().hex}/checkpoints"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_is_bit_for_bit(folder, dtype):
    state = make_state(dtype=dtype, validation_loss=0.3)
    path = save_checkpoint(folder, state)
    assert_same(load_checkpoint(path), state)
    assert_same(load_checkpoint(folder), state)


def test_zeros_of_either_sign_and_denormals_survive(tmp_path):
    state = make_state()
    state.parameters["conv1.filters"][...] = -0.0
    state.momenta["conv1.filters"][...] = 0.0
    state.parameters["n1.biases"][...] = np.float32(1e-45)
    assert_same(load_checkpoint(save_checkpoint(tmp_path, state)), state)


def test_non_contiguous_arrays_and_an_empty_curve(tmp_path):
    state = make_state(step=0)
    filters = state.parameters["conv1.filters"]
    state = dataclasses.replace(
        state,
        parameters=dict(state.parameters) | {"conv1.filters": np.asfortranarray(filters)},
        curve=type(state.curve)(),
    )
    assert_same(load_checkpoint(save_checkpoint(tmp_path, state)), state)


def test_a_path_may_be_text_relative_or_end_in_a_slash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = make_state()
    path = save_checkpoint("run", state)
    for location in (str(path), f"{path}/", f"file://{tmp_path}/{path}", "run", "run/", "./run"):
        assert_same(load_checkpoint(location), state)


def test_mappings_and_numpy_scalars_become_json(tmp_path):
    state = dataclasses.replace(make_state(), data={"voxels": np.int64(3), "size": (1, 2)})
    assert load_checkpoint(save_checkpoint(tmp_path, state)).data == {"voxels": 3, "size": [1, 2]}


def test_nan_in_settings_survives(tmp_path):
    state = dataclasses.replace(make_state(), data={"mean": math.nan})
    assert math.isnan(load_checkpoint(save_checkpoint(tmp_path, state)).data["mean"])


def test_keeps_the_latest_and_the_best(folder):
    losses = [0.5, 0.2, None, 0.4, 0.3, 0.6]
    for step, loss in enumerate(losses, start=1):
        save_checkpoint(folder, make_state(step, validation_loss=loss), keep=2)
    infos = list_checkpoints(folder)
    assert [(info.step, info.validation_loss) for info in infos] == [(2, 0.2), (5, 0.3), (6, 0.6)]
    assert [info.sequence for info in infos] == [2, 5, 6]
    assert best(folder) == infos[0].path
    assert latest(folder) == infos[-1].path
    save_checkpoint(folder, make_state(7, validation_loss=0.1), keep=1)
    assert [info.step for info in list_checkpoints(folder)] == [7]


def test_keep_all(tmp_path):
    for step in range(5):
        save_checkpoint(tmp_path, make_state(step), keep=None)
    assert [info.step for info in list_checkpoints(tmp_path)] == [0, 1, 2, 3, 4]
    assert best(tmp_path) is None


def test_latest_is_the_last_saved_even_after_going_back(tmp_path):
    save_checkpoint(tmp_path, make_state(1000))
    again = save_checkpoint(tmp_path, make_state(500))
    assert latest(tmp_path) == again
    assert load_checkpoint(tmp_path).step == 500


def test_nothing_there(tmp_path, folder):
    assert latest(folder) is None
    assert best(folder) is None
    assert list_checkpoints(folder) == []
    with pytest.raises(CheckpointError, match="no finished checkpoint here"):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match="absent: no finished checkpoint here"):
        load_checkpoint(tmp_path / "absent")


def uncommit(path: Path) -> Path:
    (path / "commit").unlink()
    return path


def test_unfinished_checkpoints_are_ignored(tmp_path):
    first = save_checkpoint(tmp_path, make_state(1))
    second = uncommit(save_checkpoint(tmp_path, make_state(2)))
    assert latest(tmp_path) == first
    assert load_checkpoint(tmp_path).step == 1
    with pytest.raises(CheckpointError, match=r"step-0000000002.*never finished"):
        load_checkpoint(second)


def test_only_old_unfinished_checkpoints_are_removed(tmp_path):
    young = uncommit(save_checkpoint(tmp_path, make_state(1)))
    moment = datetime.now(UTC) - ABANDONED - timedelta(minutes=1)
    old = tmp_path / f"step-0000000001-{moment:%Y%m%dT%H%M%SZ}-00000000"
    stranger = tmp_path / "notes"
    for path in (old, stranger):
        path.mkdir()
        (path / "file").touch()
    load_checkpoint(save_checkpoint(tmp_path, make_state(2)))
    assert young.exists()
    assert stranger.exists()
    assert not old.exists()


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage", [flip_a_bit, halve, Path.unlink, lambda path: path.write_text("")]
)
@pytest.mark.parametrize(
    "object_name",
    ["parameters/conv1.filters/c/0/0/0/0/0", "momenta/n1.biases/zarr.json", "zarr.json"],
)
def test_every_damage_is_found_and_passed_over(tmp_path, damage, object_name):
    save_checkpoint(tmp_path, make_state(1))
    path = save_checkpoint(tmp_path, make_state(2))
    damage(path / object_name)
    with pytest.raises(CheckpointError, match=r"step-0000000002.*: damaged checkpoint: ") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match=r"damaged checkpoint.*using .*step-0000000001"):
        assert load_checkpoint(tmp_path).step == 1


def test_a_torn_commit_object_commits_nothing(tmp_path):
    save_checkpoint(tmp_path, make_state(1))
    path = save_checkpoint(tmp_path, make_state(2))
    halve(path / "commit")
    assert [info.step for info in list_checkpoints(tmp_path)] == [1]
    with pytest.raises(CheckpointError, match="damaged checkpoint"):
        load_checkpoint(path)


def test_all_damaged(tmp_path):
    for step in (1, 2):
        flip_a_bit(save_checkpoint(tmp_path, make_state(step)) / "momenta/n1.biases/c/0")
    with pytest.raises(CheckpointError, match=r"step-0000000002.*its content has digest"):
        load_checkpoint(tmp_path)


def test_a_newer_format_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, make_state())
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["version"] = 99
    (path / "zarr.json").write_text(json.dumps(metadata))
    with pytest.raises(CheckpointError, match=r"format 99 is newer than 1.*update znn_dask"):
        load_checkpoint(path)


def test_bad_states_are_not_saved(tmp_path):
    state = make_state()
    wrong = {name: array.copy() for name, array in state.parameters.items()}
    wrong["n1.biases"][1] = np.nan
    cases = [
        (
            {"parameters": wrong},
            "parameter n1.biases has 1 of 3 values that are not finite at step 100",
        ),
        ({"momenta": wrong}, "momentum of n1.biases has 1 of 3 values"),
        ({"momenta": {}}, "conv1.filters is only in the parameters; both need the same names"),
        (
            {"momenta": {n: a.astype(np.float64) for n, a in state.momenta.items()}},
            r"conv1.filters is float32 \(2, 3, 1, 4, 5\), its momentum float64",
        ),
        ({"plan": {"tile": {1, 2}}}, "plan is not JSON: cannot store a set"),
    ]
    for change, message in cases:
        with pytest.raises(CheckpointError, match=message):
            save_checkpoint(tmp_path, dataclasses.replace(state, **change))
    with pytest.raises(CheckpointError, match="keep must be at least 1"):
        save_checkpoint(tmp_path, state, keep=0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/step-.*: cannot be written: Not a directory"):
        save_checkpoint(tmp_path / "file", make_state())


def test_a_checkpoint_is_plain_zarr(tmp_path):
    state = make_state()
    group = zarr.open_group(save_checkpoint(tmp_path, state), mode="r")
    assert group.metadata.zarr_format == 3
    np.testing.assert_array_equal(
        group["parameters/conv1.filters"][...], state.parameters["conv1.filters"]
    )
    assert group.attrs["step"] == 100
