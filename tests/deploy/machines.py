"""Processes started as deploy/ says: the files of this checkout, the commands on the PATH."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from real_cluster import wait_until as wait_some_seconds
from small_network import NETWORK

from znn_dask.cluster.certificates import make_certificates
from znn_dask.data.volume import create_image
from znn_dask.network import format_znn
from znn_dask.training.checkpoint import load_checkpoint

CHECKOUT = Path(__file__).resolve().parents[2]
DEPLOY = CHECKOUT / "deploy"
README = (DEPLOY / "README.md").read_text(encoding="utf-8")

CONFIG = """
[network]
file = "network.znn"
[[data.train]]
volume = "volume.zarr"
[training]
output_size = [2, 6, 6]
updates = 4
batch = 2
folder = "checkpoints"
[optimizer]
eta = 0.01
"""


def wait_until(condition: Callable[[], Any], seconds: float = 180) -> None:
    """Patiently: clusters here start from scripts, several processes at a time."""
    wait_some_seconds(condition, seconds)


def cluster_folder(folder: Path, *, at: Path | None = None) -> Path:
    """What README's first lines make: certificates beside the settings."""
    make_certificates(folder, at=at)
    shutil.copy(DEPLOY / "dask.yaml", folder)
    return folder


def write_project(folder: Path) -> Path:
    """A folder with config.toml, its network and a volume."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(CONFIG, encoding="utf-8")
    (folder / "network.znn").write_text(format_znn(NETWORK), encoding="utf-8")
    rng = np.random.default_rng(1)
    for name, dtype in (("image", np.uint8), ("labels", np.uint32)):
        values = rng.integers(0, 2 if name == "labels" else 256, (6, 24, 24)).astype(dtype)
        create_image(folder / "volume.zarr", name, values.shape, values.dtype)[...] = values
    return folder


def commands(folder: Path) -> dict[str, str]:
    """An environment in which `znn-dask`, `dask` and `python` are those of this test."""
    folder.mkdir(exist_ok=True)
    modules = shlex.quote(os.pathsep.join(p for p in sys.path if p))
    for name, arguments in {
        "python": "",
        "dask": "-m dask",
        "znn-dask": '-c "from znn_dask.cli import main; raise SystemExit(main())"',
    }.items():
        script = folder / name
        script.write_text(
            f'#!/bin/sh\nPYTHONPATH={modules} exec {sys.executable} {arguments} "$@"\n',
            encoding="utf-8",
        )
        script.chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    return kept | {"PATH": path}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Processes:
    """Commands in the background, each with its children; all are gone at the end."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, dict(environment)
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)

    def start(self, name: str, command: Sequence[str], **variables: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment | variables,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def scheduler(
        self, host: str = "127.0.0.1", inside: Sequence[str] = (), **variables: str
    ) -> str:
        """The address of a scheduler, when it listens."""
        name = f"scheduler-{len(self._started)}"
        file = self.folder / f"{name}.json"
        command = ["dask", "scheduler", "--host", host, "--port", "0", "--scheduler-file", file]
        command += ["--dashboard-address", "127.0.0.1:0"]
        self.start(name, [*inside, *map(str, command)], **variables)
        wait_until(lambda: file.exists() and file.read_text().endswith("}"))
        address: str = json.loads(file.read_text())["address"]
        return address

    def worker(
        self, address: str, host: str = "127.0.0.1", inside: Sequence[str] = (), **variables: str
    ) -> None:
        name = f"worker-{len(self._started)}"
        command = ["dask", "worker", address, "--host", host, "--nworkers", "1", "--nthreads", "1"]
        command += ["--dashboard-address", "127.0.0.1:0", "--local-directory", name]
        self.start(name, [*inside, *command], **variables)

    def run(
        self, command: Sequence[str], *, cwd: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )


def blocks(heading: str) -> list[str]:
    """Shell blocks of a section of deploy/README.md."""
    section = re.split(r"^## ", README.partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def same_bits(
    one: Path, other: Path, *, checkpoints: str = "checkpoints", map_: str = "map.zarr"
) -> None:
    """Checkpoints and maps are equal to the last bit; `one` is what the README makes."""
    mine = load_checkpoint(one / "again")
    theirs = load_checkpoint(other / checkpoints)
    assert mine.step == theirs.step == 4
    for kind in ("parameters", "momenta"):
        for name, values in getattr(mine, kind).items():
            assert getattr(theirs, kind)[name].tobytes() == values.tobytes(), name
    places = (one / "again.zarr", other / map_)
    maps = [np.asarray(zarr.open_group(place, mode="r")["0"]) for place in places]
    assert maps[0].size > 0
    assert maps[0].tobytes() == maps[1].tobytes()
