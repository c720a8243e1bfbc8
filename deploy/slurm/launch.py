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

from znn_dask.cluster.security import SecurityError, listening_protocol

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
        cluster = cluster_of_jobs()
    except (SecurityError, ValueError) as error:  # SLURMCluster: what jobqueue.yaml lacks
        print(f"launch: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    with cluster:
        if arguments.script:
            print(cluster.job_script(), end="")
            return 0
        print(f"launch: scheduler at {cluster.scheduler_address}", file=sys.stderr, flush=True)
        try:
            with kept(cluster, arguments.jobs):
                if arguments.command:
                    cluster.wait_for_workers(1)
                    return run(arguments.command, cluster)
                threading.Event().wait()
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
