"""Whatever users can get wrong ends as one line and exit code 2."""

import os
import signal
import subprocess
import time
from pathlib import Path

import cli_cases
import numpy as np
import pytest
from cli_cases import run, run_process

from znn_dask.cli.errors import BROKEN, INTERRUPTED, guarded, one_line
from znn_dask.cluster.checks import ClusterError
from znn_dask.data import create_image
from znn_dask.taskgraph.engine import TaskError
from znn_dask.training.checkpoint import latest
from znn_dask.training.trainer import TrainingError

SIZE = ("--output-size", "4,8,8")

WRONG = {
    "no such network": (("info", "nothing.znn"), "the zoo"),
    "unknown command": (("infos", "small3d"), "info"),
    "unknown option": (("info", "small3d", "--sgv", "x"), "--sgv"),
    "missing option": (("plan", "small3d"), "--output-size"),
    "size of two": (("plan", "small3d", "--output-size", "4,8"), "three positive integers"),
    "size of zero": (("bench", "small3d", "--output-size", "4,0,4"), "three positive integers"),
    "no memory": (("plan", "small3d", *SIZE, "--memory-limit", "much"), "'much'"),
    "no threads": (("plan", "small3d", *SIZE, "--threads", "0"), "at least 1"),
    "algorithm": (("plan", "small3d", *SIZE, "--algorithm", "magic"), "magic"),
    "no configuration": (("train",), "--example"),
    "configuration missing": (("train", "nowhere.toml"), "no such file"),
    "key": (("train", "config.toml", "--set", "training.updatez=3"), "updates"),
    "value": (("train", "config.toml", "--set", "optimizer.eta=-1"), "eta"),
    "zoo": (("train", "zoo.toml"), "small3d"),
    "resume": (("train", "config.toml", "--resume"), "no checkpoint"),
    "volume": (("train", "config.toml", "--set", "data.train.0.volume=gone.zarr"), "gone.zarr"),
    "patch": (("train", "config.toml", "--set", "training.output_size=[2, 90, 90]"), "94, 94"),
    "labels": (("train", "config.toml", "--set", "data.train.0.labels=truth"), "truth"),
    "checkpoint": (("predict", "gone", "volume.zarr/image", "map.zarr"), "gone"),
    "scheduler": (
        ("predict", "a", "b", "c", "--scheduler", "tcp://127.0.0.1:1"),
        "tcp://127.0.0.1:1",
    ),
    "map": (("segment", "gone.zarr", "objects.zarr"), "gone.zarr"),
    "kind": (("segment", "volume.zarr/image", "o.zarr", "--kind", "affinity"), "affinity"),
    "threshold": (("segment", "volume.zarr/image", "o.zarr", "--threshold", "7"), "7"),
    "objects": (("evaluate", "gone.zarr", "volume.zarr/labels"), "gone.zarr"),
    "region": (
        ("evaluate", "volume.zarr/labels", "volume.zarr/labels", "--region", "1:2"),
        "0:100,:,190:250",
    ),
    "import": (("import", "gone.tif", "new.zarr"), "gone.tif"),
    "import name": (("import", "tiny.znn", "volume.zarr", "--name", "image"), "overwrite"),
    "voxel size": (("import", "a.tif", "v.zarr", "--voxel-size", "8"), "three lengths"),
    "export ending": (("export", "volume.zarr/image", "image.bmp"), ".bmp"),
    "export source": (("export", "volume.zarr/masks", "m.tif"), "masks"),
    "export twice": (("export", "volume.zarr/image", "tiny.znn"), "--overwrite"),
    "svg folder": (("info", "small3d", "--svg", "no/where.svg"), "where.svg"),
    "bench": (("bench", "small3d", *SIZE, "--seconds", "0"), "positive"),
    "demo data": (("demo", "--data", "gone.zarr"), "gone.zarr"),
    "demo folder": (("demo", "--out", "."), "something else"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(
    case: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    (project / "zoo.toml").write_text(
        cli_cases.CONFIG.replace('file = "tiny.znn"', 'zoo = "small2d"')
    )
    before = sorted(os.listdir(project))
    arguments, says = WRONG[case]
    done = run(capsys, *arguments)
    assert done.code == 2
    assert done.err.startswith("znn-dask: ")
    assert done.err.count("\n") == 1
    assert says in done.err
    assert done.out == ""
    assert sorted(os.listdir(project)) == before


@pytest.mark.parametrize(
    "error",
    [
        TaskError("forward of c1, block 0: ValueError: no"),
        TrainingError("training stopped\nafter update 3"),
        ClusterError("no workers"),
        MemoryError(),
        ImportError("h5py is missing: pip install znn-dask[formats]"),
        FileNotFoundError(2, "No such file or directory", "gone"),
        TimeoutError("no answer"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_every_kind(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise error

    assert guarded(fail) == 2
    written = capsys.readouterr().err
    assert written == f"znn-dask: {one_line(error)}\n"


def test_mistakes_of_ours_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("ours")

    with pytest.raises(AssertionError):
        guarded(fail)

    def wrong() -> None:
        raise ValueError("yours")

    monkeypatch.setenv("ZNN_DASK_TRACEBACK", "1")
    with pytest.raises(ValueError, match="yours"):
        guarded(wrong)


def test_interrupts_end_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupted) == INTERRUPTED
    assert capsys.readouterr().err == "znn-dask: interrupted\n"


def test_warnings_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    def warn() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning("slow\n  cluster", UserWarning, "file.py", 1)

    assert guarded(warn) == 0
    assert capsys.readouterr().err == "znn-dask: warning: slow cluster\n"


def test_a_closed_pipe_is_no_error() -> None:
    whole = " ".join(f"'{part}'" for part in cli_cases.command("info", "vd2d"))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{whole} | true"],
        env=cli_cases.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, BROKEN)
    assert done.stderr == ""


def test_an_error_deep_in_dask_is_one_line(project: Path) -> None:
    """A bad voxel makes the loss NaN in a task on a worker's thread."""
    values = np.full((12, 40, 40), np.nan, np.float32)
    create_image(project / "volume.zarr", "image", values.shape, "f4", overwrite=True)[:] = values
    done = run_process("train", project / "config.toml")
    assert done.code == 2
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert last.startswith("znn-dask: ")
    assert "nan" in last.lower()


def test_ctrl_c_leaves_a_checkpoint_and_resume_goes_on(project: Path) -> None:
    arguments = ("train", project / "config.toml", "--set", "training.updates=1000000")
    process = subprocess.Popen(
        cli_cases.command(*arguments, "--set", "training.checkpoint_every=50"),
        env=cli_cases.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = project / "checkpoints"
    deadline = time.monotonic() + 100
    while (not folder.exists() or latest(folder) is None) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == INTERRUPTED, err
    assert "Traceback" not in err
    assert "--resume goes on from it" in err
    done = run_process("train", project / "config.toml", "--resume")
    assert done.code == 0
    assert "nothing to do" in done.err
