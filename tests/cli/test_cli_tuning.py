"""`tune`, and the plan file in the commands that use it."""

import json
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from cli_cases import command, environment, run

from znn_dask.cluster.checks import ClusterWarning
from znn_dask.training.checkpoint import load_checkpoint

SIZE = ("--output-size", "2,6,6")
OTHER_SIZE = ("--set", "training.output_size=[2,6,8]")
GIVEN = ("--set", "c1=tiled:5,5,5", "--set", "c2=direct")


@pytest.fixture
def plan(project: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A plan file in which one layer was not left to the cost table."""
    done = run(capsys, "tune", project / "tiny.znn", *SIZE, *GIVEN, "--out", project / "plan.json")
    assert done.code == 0, done.err
    return project / "plan.json"


def test_tune_prints_a_table_and_writes_a_plan(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune = ("tune", project / "tiny.znn", *SIZE, "--out", project / "plan.json")
    first = run(capsys, *tune)
    assert first.code == 0, first.err
    assert "Convolutions of an update, output patch 2,6,6" in first.out
    assert f"--plan {project / 'plan.json'}" in first.err
    written = (project / "plan.json").read_text()
    assert run(capsys, *tune).out == first.out  # from what was measured
    assert (project / "plan.json").read_text() == written
    assert json.loads(written)["digest"] in first.out


def test_plan_shows_a_file_and_what_is_given(
    project: Path, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = project / "tiny.znn"
    shown = run(capsys, "plan", net, "--plan", plan, "--json")
    assert shown.code == 0, shown.err
    rows = {row["layer"]: row for row in json.loads(shown.out)["layers"]}
    assert (rows["c1"]["algorithm"], rows["c1"]["tile"]) == ("tiled", [5, 5, 5])
    assert rows["c1"]["source"] == "given"
    assert json.loads(shown.out)["digest"] == json.loads(plan.read_text())["digest"]
    set_here = run(capsys, "plan", net, *SIZE, "--set", "c1=tiled:5,5,5", "--json")
    rows = {row["layer"]: row for row in json.loads(set_here.out)["layers"]}
    assert (rows["c1"]["source"], rows["c2"]["source"]) == ("given", "default")
    assert "tiled     given" in run(capsys, "plan", net, "--plan", plan).out


def test_bench_measures_a_plan(
    project: Path, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = ("bench", project / "tiny.znn", *SIZE, "--seconds", "0.5", "--threads", "1", "--json")
    bench = (*bench, "--forward-only")
    done = run(capsys, *bench, "--plan", plan)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["arithmetic"] == json.loads(plan.read_text())["digest"]
    assert {row["source"] for row in result["plan"]} == {"given"}


def test_one_plan_gives_one_result_on_every_machine(
    project: Path, trained: Path, plan: Path
) -> None:
    """Two processes, each with the cache of another machine; and what training is without."""
    found = {"default": load_checkpoint(trained / "checkpoints")}
    for name in ("a", "b"):
        folder = f"training.folder={project / name}"
        line = command("train", project / "config.toml", "--set", folder, "--plan", plan)
        cache = {"XDG_CACHE_HOME": str(project / f"cache-{name}")}
        done = subprocess.run(line, env=environment() | cache, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found[name] = load_checkpoint(project / name)
    assert found["a"].plan == found["b"].plan != found["default"].plan
    for name, values in found["a"].parameters.items():
        np.testing.assert_array_equal(values, found["b"].parameters[name])
        np.testing.assert_allclose(values, found["default"].parameters[name], rtol=1e-3, atol=1e-5)


def test_what_is_resumed_keeps_its_arithmetic(
    project: Path, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = project / "config.toml"
    assert run(capsys, "train", config, "--set", "training.updates=2").code == 0
    before = load_checkpoint(project / "checkpoints").plan
    with warnings.catch_warnings():
        warnings.simplefilter("always", ClusterWarning)  # as outside of tests
        done = run(capsys, "train", config, "--resume", "--plan", plan)
    assert done.code == 0, done.err
    assert "going on with the checkpoint's arithmetic" in done.err
    assert json.loads(plan.read_text())["digest"] in done.err
    after = load_checkpoint(project / "checkpoints")
    assert (after.plan, after.step) == (before, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan", "tiny.znn"), "give --output-size Z,Y,X, or --plan with a file"),
        (("plan", "tiny.znn", "--plan", "plan.json", "--output-size", "1,1,1"), "asked for is 1,1"),
        (("plan", "tiny.znn", "--plan", "plan.json", "--set", "c1=fft"), "leave out --algorithm"),
        (("plan", "tiny.znn", "--plan", "none.json"), "none.json: cannot be read"),
        (("plan", "n4", "--plan", "plan.json"), "it has conv layers c1, c2; this network has"),
        (("plan", "tiny.znn", *SIZE, "--set", "c1"), "--set 'c1' is not LAYER=METHOD, such as"),
        (("plan", "tiny.znn", *SIZE, "--set", "c1=fast"), "'fast' is no way to convolve; use"),
        (("plan", "tiny.znn", *SIZE, "--set", "c9=fft"), "no conv layer 'c9'; use one of: c1, c2"),
        (("tune", "tiny.znn", *SIZE, "--set", "c1=tiled:2,5,5"), "c1 as tiled:2,5,5: "),
        (("tune", "tiny.znn", *SIZE, "--seconds", "0"), "--seconds 0: give a positive number"),
        (("tune", "tiny.znn", *SIZE, "--out", "nowhere/plan.json"), "there is no folder nowhere"),
        (("bench", "tiny.znn", *SIZE, "--plan", "plan.json", "--mode", "fft"), "leave out --mode"),
        (("train", "config.toml", "--plan", "none.json"), "none.json: cannot be read"),
        (
            (
                "train",
                "config.toml",
                "--plan",
                "plan.json",
                "--set",
                "training.output_size=[2,6,8]",
            ),
            "is for output size 2,6,6, asked for is 2,6,8",
        ),
        (
            ("train", "config.toml", "--plan", "plan.json", "--set", "execution.algorithm=fft"),
            "says how each layer is computed: leave out algorithm 'fft'",
        ),
    ],
)
def test_what_contradicts_is_refused_in_one_line(
    project: Path,
    plan: Path,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(project)
    done = run(capsys, *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert not (project / "checkpoints").exists()


def test_tuning_of_a_forward_pass(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(capsys, "tune", project / "tiny.znn", *SIZE, "--forward", "--dtype", "float64")
    assert done.code == 0, done.err
    assert "Convolutions of a forward pass, output patch 2,6,6, float64" in done.out
