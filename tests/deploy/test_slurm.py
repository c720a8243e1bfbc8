"""deploy/slurm: the scripts of jobs, and jobs that a stand-in for SLURM runs on this machine."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import dask.config
import pytest
import yaml
from machines import DEPLOY, Processes, cluster_folder, wait_until, write_project

LAUNCH = ["python", str(DEPLOY / "slurm" / "launch.py")]

SBATCH = """#!/bin/sh
# Runs the job at once, on this machine, without this environment: as SLURM may on another node.
mkdir -p "$QUEUE"
if [ "$1" = --test-only ]; then
    grep -q "^#SBATCH -p nowhere" || exit 0
    echo "sbatch: error: invalid partition specified: nowhere" >&2
    exit 1
fi
script=$(mktemp "$QUEUE/job-XXXXXX")
for argument; do file=$argument; done
cp "$file" "$script"
setsid env -i PATH="$PATH" HOME="$HOME" sh -c '
    echo $$ >"$1.pid"; exec bash "$1"' job "$script" >"$script.log" 2>&1 </dev/null &
echo "Submitted batch job $(ls "$QUEUE" | grep -c "^job-[^.]*$")"
"""
SCANCEL = """#!/bin/sh
echo "$@" >>"$QUEUE/cancelled"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cluster's folder with the settings of a small site."""
    folder = cluster_folder(tmp_path / "cluster")
    settings = yaml.safe_load((DEPLOY / "slurm" / "jobqueue.yaml").read_text())
    settings["jobqueue"]["slurm"] |= {"cores": 1, "memory": "1GiB", "python": "python"}
    settings["jobqueue"]["slurm"]["scheduler-options"] = {"dashboard_address": "127.0.0.1:0"}
    (folder / "jobqueue.yaml").write_text(yaml.safe_dump(settings))
    return folder


def job_script(processes: Processes, folder: Path) -> str:
    done = processes.run([*LAUNCH, "--script"], DASK_CONFIG=str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.cluster
def test_the_script_of_a_job(processes: Processes, tmp_path: Path) -> None:
    folder = cluster_folder(tmp_path / "cluster")
    shutil.copy(DEPLOY / "slurm" / "jobqueue.yaml", folder)
    script = job_script(processes, folder)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    lines = script.splitlines()
    for line in (
        "#!/usr/bin/env bash",
        "#SBATCH -J znn-dask",
        "#SBATCH --cpus-per-task=16",
        "#SBATCH --mem=60G",
        "#SBATCH -t 04:00:00",
        f"export DASK_CONFIG={folder}",
    ):
        assert line in lines, line
    worker = lines[-1]
    for option in (
        " tls://",
        "--nthreads 16 ",
        "--memory-limit 60.00GiB",
        "--nanny ",
        "--lifetime 225m ",
        "--protocol tls://",
        f"--tls-ca-file {folder / 'ca.pem'}",
        f"--tls-cert {folder / 'node.pem'}",
        f"--tls-key {folder / 'node-key.pem'}",
    ):
        assert option in worker, option
    assert "--nworkers" not in worker
    assert str(folder / "ca-key.pem") not in script


def test_the_keys_for_slurm_are_known_to_dask_jobqueue() -> None:
    import dask_jobqueue

    known = yaml.safe_load((Path(dask_jobqueue.__file__).parent / "jobqueue.yaml").read_text())
    ours = yaml.safe_load((DEPLOY / "slurm" / "jobqueue.yaml").read_text())
    assert ours.keys() == {"jobqueue"}
    assert ours["jobqueue"]["slurm"].keys() <= known["jobqueue"]["slurm"].keys()


def test_a_worker_leaves_before_its_job_ends() -> None:
    slurm = yaml.safe_load((DEPLOY / "slurm" / "jobqueue.yaml").read_text())["jobqueue"]["slurm"]
    given = slurm["worker-extra-args"]
    options = dict(zip(given[::2], given[1::2], strict=True))
    hours, minutes, seconds = (int(part) for part in slurm["walltime"].split(":"))
    lifetime, stagger = (
        dask.utils.parse_timedelta(options[name]) for name in ("--lifetime", "--lifetime-stagger")
    )
    assert lifetime + stagger < 3600 * hours + 60 * minutes + seconds


@pytest.mark.cluster
def test_without_certificates_nothing_is_started(processes: Processes, folder: Path) -> None:
    (folder / "tls.yaml").unlink()
    done = processes.run(LAUNCH, DASK_CONFIG=str(folder))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("launch: listening at 0.0.0.0 without TLS")


@pytest.fixture
def queue(tmp_path: Path, processes: Processes) -> Path:
    """Where the stand-in for SLURM keeps its jobs; they are killed at the end."""
    queue, bin_ = tmp_path / "queue", tmp_path / "slurm-bin"
    bin_.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    processes.environment["PATH"] = f"{bin_}{os.pathsep}{processes.environment['PATH']}"
    processes.environment["QUEUE"] = str(queue)
    yield queue
    for pid in jobs(queue):
        kill(pid)


def jobs(queue: Path) -> list[int]:
    """Leaders of the sessions of jobs, in the order of their submission."""
    files = sorted(queue.glob("job-*.pid"), key=lambda file: file.stat().st_mtime_ns)
    return [int(text) for file in files if (text := file.read_text().strip())]


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


@pytest.mark.cluster
def test_what_slurm_refuses_is_said(processes: Processes, folder: Path, queue: Path) -> None:
    done = processes.run(
        [*LAUNCH, "--", "true"], DASK_CONFIG=str(folder), DASK_JOBQUEUE__SLURM__QUEUE="nowhere"
    )
    assert done.returncode == 2
    assert done.stderr == (
        "launch: SLURM refuses the job of a worker (jobqueue.yaml): "
        "sbatch: error: invalid partition specified: nowhere\n"
    )
    (queue.parent / "slurm-bin" / "sbatch").unlink()
    if shutil.which("sbatch") is None:
        done = processes.run([*LAUNCH, "--", "true"], DASK_CONFIG=str(folder))
        assert done.returncode == 2
        assert done.stderr == "launch: no `sbatch` here: run this where SLURM takes jobs\n"


@pytest.mark.cluster
@pytest.mark.slow
def test_workers_join_from_jobs_and_train(
    processes: Processes, folder: Path, queue: Path, tmp_path: Path
) -> None:
    project = write_project(tmp_path / "project")
    command = [*LAUNCH, "--jobs", "2", "--", "znn-dask", "train", "config.toml"]
    done = processes.run(command, cwd=project, DASK_CONFIG=str(folder))
    assert done.returncode == 0, done.stderr
    assert "scheduler at tls://" in done.stderr
    assert len(jobs(queue)) == 2
    assert (queue / "cancelled").exists()
    logs = "".join(file.read_text() for file in queue.glob("*.log"))
    assert "Start Nanny at: " in logs


@pytest.mark.cluster
@pytest.mark.slow
def test_a_lost_job_is_submitted_again_and_the_signal_of_slurm_leaves_a_checkpoint(
    processes: Processes, folder: Path, queue: Path, tmp_path: Path
) -> None:
    project = write_project(tmp_path / "project")
    train = ["znn-dask", "train", str(project / "config.toml"), "--set", "training.updates=1000000"]
    launcher = processes.start(
        "launch",
        [*LAUNCH, "--jobs", "1", "--", *train],
        DASK_CONFIG=str(folder),
        DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT="1s",
    )

    def said(text: str) -> bool:
        assert launcher.poll() is None, (processes.folder / "launch.log").read_text()
        return any(text in file.read_text() for file in sorted(queue.glob("*.log"))[-1:])

    wait_until(lambda: said("Registered to"))
    (first,) = jobs(queue)
    kill(first)
    wait_until(lambda: len(jobs(queue)) == 2)
    wait_until(lambda: "updates" in (processes.folder / "launch.log").read_text())
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(60) == 130
    assert list((project / "checkpoints").iterdir())
    assert "stopped after update" in (processes.folder / "launch.log").read_text()
