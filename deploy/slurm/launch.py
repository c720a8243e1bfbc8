"""Runs a command on a Dask cluster of SLURM jobs: scheduler here, a worker in each job.

    export DASK_CONFIG=$PWD/cluster          # dask.yaml, jobqueue.yaml, tls.yaml, certificates
    python deploy/slurm/launch.py --jobs 4 -- znn-dask train config.toml

`--scheduler ADDRESS` is put at the end of the command. Jobs whose workers are lost are submitted
again. When the command ends, so do the jobs. Without one, Ctrl-C ends them.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import dask
from dask_jobqueue import SLURMCluster
from distributed import Security

from znn_dask.cluster.security import listening_protocol

_LOOK_AGAIN = 5.0  # seconds
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def cluster_of_jobs() -> SLURMCluster:
    """A scheduler in this process that can submit workers, as Dask is configured.

    Raises
    ------
    SecurityError
        If there are no certificates: jobs are on other machines.
    """
    folder = Path(os.environ.get("DASK_CONFIG", ".")).absolute()
    prologue = dask.config.get("jobqueue.slurm.job-script-prologue")
    return SLURMCluster(
        protocol=listening_protocol("0.0.0.0"),
        security=Security(),
        # A site may start jobs without the environment of whoever submits them.
        job_script_prologue=[f"export DASK_CONFIG={shlex.quote(str(folder))}", *prologue],
    )


def check_submission(script: str) -> None:
    """Ask SLURM whether it would take a job; Dask would wait for a refused one without a word.

    Raises
    ------
    ValueError
        With what SLURM says.
    """
    try:
        asked = subprocess.run(
            ["sbatch", "--test-only"], input=script, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise ValueError("no `sbatch` here: run this where SLURM takes jobs") from error
    if asked.returncode:
        raise ValueError(f"SLURM refuses the job of a worker (jobqueue.yaml): {asked.stderr}")


@contextmanager
def kept(cluster: SLURMCluster, jobs: int) -> Iterator[None]:
    """Keep so many jobs: scaling again replaces those that Dask has given up meanwhile."""
    ended = threading.Event()

    def keep() -> None:
        while True:
            cluster.scale(jobs=jobs)
            if ended.wait(_LOOK_AGAIN):
                return

    thread = threading.Thread(target=keep, name="keep jobs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def run(command: list[str], cluster: SLURMCluster) -> int:
    """The command's exit code; SIGINT and SIGTERM go to it, and a training leaves a checkpoint."""
    child = subprocess.Popen(
        [*command, "--scheduler", cluster.scheduler_address],
        start_new_session=True,  # a Ctrl-C in the terminal reaches it once, from here
    )

    def forward(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    for number in _SIGNALS:
        signal.signal(number, forward)
    return child.wait()


def wait_for_a_worker(cluster: SLURMCluster) -> None:
    """Queues may be long: says every minute that it still waits."""
    while True:
        try:
            cluster.wait_for_workers(1, timeout=60)
            return
        except TimeoutError:
            say("no worker has joined yet; see `squeue --me` and logs/")


def say(text: str) -> None:
    print(f"launch: {' '.join(text.split())}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2, help="workers to keep (%(default)s)")
    parser.add_argument("--script", action="store_true", help="only print the script of a job")
    parser.add_argument("command", nargs="*", metavar="COMMAND")
    arguments = parser.parse_args()
    for number in _SIGNALS:  # dask_jobqueue would have the first end us with code 0
        signal.signal(number, signal.default_int_handler)
    try:
        return launch(arguments.jobs, arguments.command, only_script=arguments.script)
    except ValueError as error:  # SecurityError; SLURMCluster: what jobqueue.yaml lacks
        say(str(error))
        return 2
    except KeyboardInterrupt:
        return 130


def launch(jobs: int, command: list[str], *, only_script: bool) -> int:
    """The exit code of a command on a cluster of so many jobs."""
    with cluster_of_jobs() as cluster:
        script = cluster.job_script()
        if only_script:
            print(script, end="")
            return 0
        check_submission(script)
        say(f"scheduler at {cluster.scheduler_address}")
        with kept(cluster, jobs):
            wait_for_a_worker(cluster)
            if command:
                return run(command, cluster)
            say("workers are there; Ctrl-C ends them")
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
