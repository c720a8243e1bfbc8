"""A cluster of real processes on the loopback interface: they can be killed, stopped and joined."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dask
import yaml
from distributed import Client

from znn_dask.cluster.local import SETTINGS
from znn_dask.cluster.members import present_workers

Process = subprocess.Popen[bytes]


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.01)


class RealCluster:
    """A scheduler and the workers that are added to it.

    folder: for their files. host: where the scheduler listens. inside: command that starts a
    process somewhere else (`ip netns exec NAME`). settings: of Dask, for all processes.
    """

    def __init__(
        self,
        folder: Path,
        host: str = "127.0.0.1",
        inside: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._file = folder / "scheduler.json"
        nested: dict[str, Any] = {}
        dask.config.set({**SETTINGS, **(settings or {})}, config=nested)
        self._settings = folder / "dask.yaml"
        self._settings.write_text(yaml.safe_dump(nested))
        self._processes: list[Process] = []
        self.workers: dict[str, Process] = {}
        self.scheduler = self._start(
            "scheduler", ["--host", host, "--port", "0", "--no-show", "--no-dashboard"], inside
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()  # a stopped one too
        for process in self._processes:
            process.wait(30)

    @property
    def address(self) -> str:
        wait_until(lambda: self._file.exists() and self._file.read_text().endswith("}"))
        address: str = json.loads(self._file.read_text())["address"]
        return address

    def add_worker(
        self,
        name: str,
        threads: int = 1,
        host: str = "127.0.0.1",
        inside: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        arguments = [
            *("--host", host, "--nthreads", str(threads), "--name", name, "--no-dashboard"),
            *("--no-nanny", "--local-directory", str(self._folder / name)),
            *("--memory-limit", "0"),
        ]
        self.workers[name] = self._start("worker", arguments, inside, environment)
        return self.workers[name]

    def kill(self, name: str) -> None:
        self.workers[name].send_signal(signal.SIGKILL)

    def stop(self, name: str) -> None:
        self.workers[name].send_signal(signal.SIGSTOP)

    def _start(
        self,
        kind: str,
        arguments: Sequence[str],
        inside: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        tests = Path(__file__).resolve().parent
        # Functions of tests run there too.
        places = [str(place) for place in (tests.parent, tests, tests / "training")]
        given = os.environ.get("PYTHONPATH", "")
        path = os.pathsep.join([*places, given]).rstrip(os.pathsep)
        with (self._folder / f"{kind}-{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(*inside, sys.executable, "-m", f"distributed.cli.dask_{kind}"),
                    *("--scheduler-file", str(self._file), *arguments),
                ],
                stdout=log,
                stderr=log,
                env=os.environ
                | {"PYTHONPATH": path, "DASK_CONFIG": str(self._settings)}
                | dict(environment or {}),
            )
        self._processes.append(process)
        return process


def names(client: Client) -> set[str]:
    """Names of the workers that are in the cluster."""
    return {worker["name"] for worker in present_workers(client).values()}


def take_for_dead(client: Client, address: str) -> None:
    """Have the scheduler do what it does when a worker was silent for long (worker-ttl)."""
    client.run_on_scheduler(_remove, address)


async def _remove(address: str, dask_scheduler: Any) -> None:
    await dask_scheduler.remove_worker(address=address, stimulus_id="silent")
