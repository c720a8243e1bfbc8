import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_cases import environment, run, run_process

import znn_dask


def test_info_describes_and_draws(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = project / "net.svg"
    done = run(capsys, "info", project / "tiny.znn", "--output-size", "2,6,6", "--svg", picture)
    assert done.code == 0
    assert "input 4,10,10 -> output 2,6,6" in done.out
    assert picture.read_text().lstrip().startswith("<svg")


@pytest.mark.parametrize("name", ["n4", "vd2d", "vd2d3d", "srini2d", "small3d", "em3d"])
def test_info_knows_the_zoo(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "field of view" in run(capsys, "info", name).out


def test_info_reads_checkpoints(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(capsys, "info", trained / "checkpoints")
    assert done.code == 0
    assert "field of view  3,5,5" in done.out


def test_plan_prints_a_table(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(capsys, "plan", project / "tiny.znn", "--output-size", "4,8,8", "--threads", "2")
    assert done.code == 0
    assert "Plan for an output patch of 4,8,8" in done.out
    assert "on 2 thread(s)" in done.out


def test_plan_prints_json_and_draws(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = project / "gantt.svg"
    done = run(
        capsys,
        *("plan", project / "tiny.znn", "--output-size", "4,8,8", "--algorithm", "direct"),
        *("--json", "--gantt", picture),
    )
    assert done.code == 0
    made = json.loads(done.out)
    assert {row["algorithm"] for row in made["layers"]} == {"direct"}
    assert "<svg" in picture.read_text()[:1000]


def test_plan_of_a_batch_on_workers(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = project / "gantt.html"
    done = run(
        capsys,
        *("plan", project / "tiny.znn", "--output-size", "4,8,8", "--workers", "2"),
        *("--batch", "3", "--json", "--gantt", picture),
    )
    made = json.loads(done.out)
    assert (made["batch"], made["placement"]) == (3, [[0, 1], [2, 2]])
    assert made["exchange_s"] > 0
    assert "<svg" in picture.read_text()


def test_plan_refuses_what_it_cannot_draw_or_place(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ("plan", project / "tiny.znn", "--output-size", "4,8,8")
    done = run(capsys, *plan, "--gantt", project / "gantt.pdf")
    assert done.code == 2
    assert "ends in '.pdf'; a schedule is drawn as .svg, .png, .html" in done.err
    done = run(capsys, *plan, "--workers", "3", "--batch", "2")
    assert done.code == 2
    assert "3 workers, but a batch of 2" in done.err


def test_plan_of_the_forward_pass(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(
        capsys, "plan", project / "tiny.znn", "--output-size", "4,8,8", "--forward", "--json"
    )
    assert "predicted_forward_s" in json.loads(done.out)


def test_plan_refuses_what_does_not_fit(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(
        capsys,
        *("plan", project / "tiny.znn", "--output-size", "64,64,64", "--memory-limit", "5MB"),
    )
    assert done.code == 2
    assert "the limit is 5 MB" in done.err
    assert "would fit" in done.err


def test_plan_measures_what_is_unknown_and_all_on_demand(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clusters: list[bool] = []
    monkeypatch.setattr("znn_dask.cluster.machine.measure_cluster", lambda: clusters.append(True))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command = ("plan", project / "tiny.znn", "--output-size", "1,6,6", "--threads", "1")
    first = run(capsys, *command)
    assert first.code == 0
    assert "(measured on this machine)" in first.out
    (timings,) = (tmp_path / "znn-dask").glob("*.json")
    measured = timings.read_text()
    assert run(capsys, *command).out == first.out
    assert timings.read_text() == measured
    assert not clusters
    assert run(capsys, *command, "--refresh").code == 0
    assert timings.read_text() != measured
    assert len(clusters) == 1
    assert run(capsys, *command, "--workers", "2").code == 0
    assert len(clusters) == 2


def test_help_and_info_load_neither_dask_nor_zarr() -> None:
    code = (
        "import sys; from znn_dask.cli import main; main(['--help']); main(['info', 'small3d']);"
        "print(sorted({'dask', 'distributed', 'zarr', 'matplotlib', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "name",
    [
        "bench",
        "demo",
        "evaluate",
        "export",
        "import",
        "info",
        "plan",
        "predict",
        "segment",
        "train",
        "tune",
    ],
)
def test_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(capsys, name, "--help")
    assert done.code == 0
    assert f"znn-dask {name}" in done.out.partition("Example:")[2]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version").out.startswith("znn-dask ")


def test_the_module_is_a_command() -> None:
    assert "znn-dask demo" in run_process("--help").out
    assert Path(znn_dask.__file__).name == "__init__.py"
