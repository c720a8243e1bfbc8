"""Jobs on a cluster that stays: from the command line and from Python."""

import json
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest
import yaml
from distributed import Client
from job_cases import (
    assert_same_bits,
    cluster,
    environment,
    final_parameters,
    wait_until,
    write_project,
)

import znn_dask as znn
from znn_dask.cli import main
from znn_dask.jobs.handle import Job
from znn_dask.training.checkpoint import list_checkpoints, load_checkpoint

pytestmark = pytest.mark.cluster

FOREVER = ("training.updates=1000000",)


@dataclass(frozen=True)
class Site:
    """A project, a cluster whose scheduler watches a folder of jobs, and that folder."""

    config: Path
    address: str
    client: Client
    folder: Path

    @property
    def volume(self) -> Path:
        return self.config.parent / "volume.zarr"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    config = write_project(folder / "project", updates=60)
    with cluster(folder / "cluster", 1, jobs=folder / "jobs") as (real, client):
        yield Site(config, real.address, client, folder / "jobs")


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def command(*arguments: str | Path) -> list[str]:
    start = "import sys; from znn_dask.cli import main; sys.exit(main())"
    return [sys.executable, "-c", start, *map(str, arguments)]


def test_from_submission_to_a_map(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process that submits is gone before the job begins; all else is asked of the cluster."""
    there = ("--scheduler", site.address)
    done = subprocess.run(
        command("submit", site.config, *there, "--title", "squares"),
        env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    name = done.stdout.strip()
    assert (site.folder / name / "job.json").exists()
    code, _, shown = run(capsys, "attach", name[-4:], *there)
    assert code == 0
    assert f"job {name} has completed" in shown
    assert "update 60 of 60" in shown
    _, out, _ = run(capsys, "jobs", "--folder", site.folder)
    row = next(line for line in out.splitlines() if line.startswith(name))
    assert "squares  training  completed  60 of 60" in row
    _, out, _ = run(capsys, "jobs", "--json", *there)
    assert json.loads(out)[-1]["state"] == "completed"
    _, out, _ = run(capsys, "logs", name, "-f", *there)
    assert "[1] update 60: checkpoint" in out
    assert out == run(capsys, "logs", name, "--folder", site.folder)[1]

    code, _, _ = run(capsys, "fetch", name, tmp_path / "got", *there)
    assert code == 0
    got = load_checkpoint(tmp_path / "got" / "checkpoints")
    assert got.step == 60
    for left in ("learning-curve.png", "learning-curve.json", "log.txt", "job.json"):
        assert (tmp_path / "got" / left).stat().st_size > 0
    run(capsys, "fetch", name, tmp_path / "got", *there)  # a second time does no harm
    assert len(list_checkpoints(tmp_path / "got" / "checkpoints")) == 1

    image, out_ = site.volume / "image", tmp_path / "map.zarr"
    region = ("--region", "0:8,:,0:32", "--border", "mirror")
    code, second, _ = run(capsys, "submit", "predict", name[-4:], image, out_, *region, *there)
    assert code == 0
    assert run(capsys, "attach", second.strip(), *there)[0] == 0
    box = [(0, 8), (0, 40), (0, 32)]
    here = znn.predict(
        got, image, tmp_path / "here.zarr", region=box, border="mirror", progress=False
    )
    np.testing.assert_array_equal(znn.open_array(out_)[:], znn.open_array(here)[:])
    _, _, told = run(capsys, "fetch", second.strip(), tmp_path / "other", *there)
    assert str(out_) in told


def test_cancel_leaves_a_checkpoint_and_resume_goes_on(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = ("training.updates=4000", "training.checkpoint_every=4000")
    plain = znn.submit(site.config, site.client, overrides=longer)
    job = znn.submit(site.config, site.client, overrides=longer)
    waiting = znn.submit(site.config, site.client, overrides=FOREVER)
    assert waiting.state == "waiting"
    waiting.cancel()
    assert waiting.wait(30) == "cancelled"  # its turn never came
    wait_until(lambda: job.state == "running" and job.history.progress is not None)
    code, _, said = run(capsys, "cancel", job.id, "--folder", site.folder)
    assert code == 0
    assert f"znn-dask resume {job.id}" in said
    assert job.wait(120) == "cancelled"
    assert run(capsys, "attach", job.id, "--folder", site.folder)[0] == 1
    step = load_checkpoint(str(job.checkpoints.latest)).step
    assert run(capsys, "cancel", job.id, "--folder", site.folder)[::2] == (
        2,
        f"znn-dask: job {job.id} is over: it was cancelled: after update {step}\n",
    )
    job.resume()
    assert job.wait(120) == "completed"
    assert plain.state == "completed"
    assert_same_bits(final_parameters(job), final_parameters(plain))
    assert "need not be resumed" in run(capsys, "resume", job.id, "--folder", site.folder)[2]


def test_detaching_leaves_the_job_alone(site: Site) -> None:
    job = znn.submit(site.config, site.client, overrides=FOREVER)
    wait_until(lambda: job.history.progress is not None and job.history.progress.last > 0)
    with subprocess.Popen(
        command("attach", job.id, "--scheduler", site.address),
        env=environment(), stderr=subprocess.PIPE, text=True,
    ) as attached:  # fmt: skip
        assert attached.stderr is not None
        for line in attached.stderr:
            if "update " in line:
                break
        attached.send_signal(signal.SIGINT)
        rest = attached.stderr.read()
        assert attached.wait(30) == 130
    assert f"detached; job {job.id} goes on" in rest
    assert "Traceback" not in rest
    assert job.state == "running"
    job.cancel()
    assert job.wait(120) == "cancelled"
    assert job.checkpoints.latest is not None


def test_two_at_once_share_a_cluster_and_the_third_waits(site: Site, tmp_path: Path) -> None:
    with cluster(tmp_path / "cluster", 2, tmp_path / "jobs", **{"znn.jobs.at-once": 2}) as (
        _,
        client,
    ):
        jobs = [znn.submit(site.config, client, overrides=FOREVER) for _ in range(3)]
        wait_until(lambda: all(job.history.progress for job in jobs[:2]))
        homes = {job.history.claims[0].worker for job in jobs[:2]}
        assert len(homes) == 2
        assert jobs[2].state == "waiting"
        jobs[0].cancel()
        wait_until(lambda: jobs[2].state == "running")
        assert jobs[0].state == "cancelled"
        assert jobs[1].state == "running"


def flat(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_a_cluster_with_certificates(site: Site, tmp_path: Path) -> None:
    """Keeper and driver connect with those of their processes."""
    pytest.importorskip("cryptography")
    from znn_dask.cluster.certificates import make_certificates

    make_certificates(tmp_path / "tls")
    written = yaml.safe_load((tmp_path / "tls" / "tls.yaml").read_text())
    settings = dict(flat(written))
    with (
        dask.config.set(settings),
        cluster(tmp_path / "cluster", 1, **settings) as (real, client),
    ):
        assert real.address.startswith("tls://")
        job = znn.submit(site.config, client, folder=tmp_path / "jobs")
        assert job.wait(120) == "completed"


def failed(job: Job) -> str:
    assert job.wait(120) == "failed"
    end = job.history.end
    assert end is not None
    assert "\n" not in end.reason
    return end.reason


def test_what_cannot_succeed_fails_once(site: Site) -> None:
    """Not as often as a lost worker would have it tried again."""
    diverging = znn.submit(
        site.config, site.client, overrides=("optimizer.eta=1e30", "training.loss='square'")
    )
    reason = failed(diverging)
    assert "training stopped after update" in reason
    assert "the loss is" in reason
    assert diverging.history.attempt == 1
    volume = site.config.parent / "vanishing.zarr"
    shutil.copytree(site.volume, volume)
    blocking = znn.submit(site.config, site.client, overrides=FOREVER)
    vanishing = znn.submit(site.config, site.client, overrides=(f"data.train.0.volume={volume}",))
    shutil.rmtree(volume)
    blocking.cancel()
    assert "no volume at" in failed(vanishing)
    assert vanishing.history.attempt == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("logs", "nothing", "--scheduler", "{address}"), "no job 'nothing' in {folder}: there "),
        (("jobs", "--folder", "ftp://host/jobs"), "ftp cannot keep two drivers of one job apart"),
        (("jobs",), "neither a scheduler nor a folder of jobs is named"),
        (("submit", "{config}"), "no scheduler to submit to: give --scheduler"),
        (("submit", "none.toml", "--scheduler", "{address}"), "none.toml: no such file"),
        (
            ("submit", "{config}", "--scheduler", "{address}", "--set", "optimizer.eta=-1"),
            "optimizer.eta = -1: expected a positive number",
        ),
        (
            ("submit", "{config}", "--scheduler", "{address}", "--set", "data.train.0.volume=n"),
            'n" is not seen by the scheduler of the jobs: give a path that it and all workers see',
        ),
        (
            ("submit", "{config}", "--scheduler", "{address}", "--set", "data.train.0.image=em"),
            "has no item 'em', it has image, labels",
        ),
        (
            ("submit", "{config}", "--scheduler", "{address}", "--folder", "{config}/jobs"),
            "cannot be written: Not a directory",
        ),
        (
            ("submit", "predict", "nothing", "image", "out", "--scheduler", "{address}"),
            "no job 'nothing'",
        ),
        (
            ("submit", "predict", "/none/c", "/none/i", "out", "--scheduler", "{address}"),
            'checkpoint "/none/c" is not seen by the scheduler of the jobs',
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    site: Site,
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    facts = {"address": site.address, "config": site.config, "folder": site.folder}
    code, out, said = run(capsys, *(text.format(**facts) for text in arguments))
    assert (code, out) == (2, "")
    assert words.format(**facts) in said
    assert said.count("\n") == 1


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, said = run(capsys, "jobs", "--folder", tmp_path)
    assert (code, out, said) == (0, "", f"znn-dask: no jobs in {tmp_path}\n")


def test_an_unreachable_scheduler(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    class Hasty(distributed.Client):
        def __init__(self, address: str, timeout: int) -> None:
            super().__init__(address, timeout=1)

    monkeypatch.setattr("distributed.Client", Hasty)
    code, _, said = run(capsys, "jobs", "--scheduler", "tcp://127.0.0.1:1")
    assert code == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in said


def test_paths_of_settings_must_be_absolute(site: Site) -> None:
    settings = tomllib.loads(site.config.read_text())
    settings["network"]["file"] = str(site.config.parent / "small.znn")
    with pytest.raises(ValueError, match="is relative, and workers have another working directory"):
        znn.submit(settings, site.client)
    settings["data"]["train"][0]["volume"] = str(site.volume)
    job = znn.submit(settings, site.client, title="settings")
    assert job.wait(120) == "completed"
    assert znn.find_job(job.id, folder=site.folder).state == "completed"
    assert job.id in {other.id for other in znn.list_jobs(site.client)}
