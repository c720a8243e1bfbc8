"""A predicting process is killed half-way; a rerun computes the missing blocks only."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import prediction_reference as reference
import zarr
from prediction_cases import boundary_network, boundary_state, dense, make_image, standardised
from prediction_reference import prediction

from znn_dask.data.volume import create_image, open_array
from znn_dask.inference import predict, prediction_status
from znn_dask.training.checkpoint import save_checkpoint

SHAPE = (7, 30, 41)
BLOCK = (2, 8, 16)

VICTIM = """
import sys, time
import prediction_reference as reference
from prediction_reference import prediction
from znn_dask.inference import predict

class Slow(reference.Wrapped):
    def before(self):
        time.sleep(0.1)

prediction.ForwardPass = Slow
checkpoint, image, out = sys.argv[1:]
predict(checkpoint, image, out, block=(2, 8, 16), progress=False)
"""


def markers(out: Path) -> dict[int, dict]:
    group = zarr.open_group(out, path=".znn/blocks", mode="r")
    return {int(name): dict(marker.attrs) for name, marker in group.groups()}


def interrupted(tmp_path: Path, how: signal.Signals) -> tuple[Path, Path, Path, int]:
    """(checkpoint, image, out, return code) of a prediction stopped after five blocks."""
    image = tmp_path / "in.zarr/image"
    create_image(tmp_path / "in.zarr", "image", SHAPE, "uint8", (4, 16, 16))[:] = make_image(SHAPE)
    checkpoint, out = save_checkpoint(tmp_path / "c", boundary_state()), tmp_path / "out.zarr"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(checkpoint), str(image), str(out)],
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob(".znn/blocks/0*/zarr.json"))) < 5:
        assert process.poll() is None, "the victim ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    return checkpoint, image, out, process.wait(30)


def continue_and_check(checkpoint: Path, image: Path, out: Path, monkeypatch) -> None:
    before = markers(out)
    assert 5 <= len(before) < 27
    calls = []

    class Counting(reference.Wrapped):
        def before(self):
            calls.append(1)

    monkeypatch.setattr(prediction, "ForwardPass", Counting)
    predict(checkpoint, image, out, progress=False)
    after = markers(out)
    assert len(calls) == 27 - len(before)
    assert len(after) == 27
    assert {k: after[k] for k in before} == before  # timestamps and checksums of the first run
    assert {m["process"] for k, m in after.items() if k not in before} != {
        m["process"] for m in before.values()
    }
    expected = dense(boundary_network(), boundary_state(), standardised(make_image(SHAPE)))
    np.testing.assert_allclose(open_array(out)[:], expected, atol=2e-6)


def test_killed(tmp_path, monkeypatch):
    checkpoint, image, out, code = interrupted(tmp_path, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not prediction_status(out).finished
    continue_and_check(checkpoint, image, out, monkeypatch)
    whole = predict(checkpoint, image, tmp_path / "whole", block=BLOCK, progress=False)
    np.testing.assert_array_equal(open_array(out)[:], open_array(whole)[:])


def test_interrupted(tmp_path, monkeypatch):
    checkpoint, image, out, code = interrupted(tmp_path, signal.SIGINT)
    assert code != 0
    continue_and_check(checkpoint, image, out, monkeypatch)


def test_killed_while_it_begins(tmp_path, monkeypatch):
    """Every state that `begin` can leave behind is continued."""
    state, image = boundary_state(), make_image(SHAPE)
    whole = predict(state, image, tmp_path / "whole", block=BLOCK, progress=False)
    expected = open_array(whole)[:]
    for step, name in enumerate(["create_group", "open_group", "create_array"]):
        out = tmp_path / str(step)
        with monkeypatch.context() as patch:
            owner = zarr.Group if name == "create_array" else zarr
            original = getattr(owner, name)

            def dying(*args, original=original, **kwargs):
                result = original(*args, **kwargs)
                if kwargs.get("mode") == "r":
                    return result
                raise KeyboardInterrupt

            patch.setattr(owner, name, dying)
            try:
                predict(state, image, out, block=BLOCK, progress=False)
            except KeyboardInterrupt:
                assert out.exists()
            else:
                raise AssertionError("was not interrupted")
        predict(state, image, out, progress=False)
        np.testing.assert_array_equal(open_array(out)[:], expected)
