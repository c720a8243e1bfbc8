"""deploy/README.md: what it says about one machine is run as it stands there."""

import re
from pathlib import Path

import pytest
from machines import (
    CHECKOUT,
    DEPLOY,
    README,
    Processes,
    blocks,
    free_port,
    same_bits,
    write_project,
)

# A machine under load takes longer than a reader waits.
WAIT = """python -c '
from distributed import Client
with Client("tls://127.0.0.1:8786", timeout=100) as client:
    client.wait_for_workers(1, timeout=100)
'
"""


@pytest.mark.cluster
@pytest.mark.slow
def test_processes_on_one_machine_give_the_bits_of_one_process(
    processes: Processes, here: Path, tmp_path: Path
) -> None:
    script, waits = re.subn(
        r"^sleep 10 .*\n", WAIT, "".join(blocks("The cluster's folder")), flags=re.MULTILINE
    )
    assert waits == 1
    for port in ("8786", "8787"):
        script = script.replace(port, str(free_port()))
    write_project(tmp_path / "project")
    (tmp_path / "deploy").symlink_to(DEPLOY)
    (tmp_path / "commands.sh").write_text(f"set -eu\n{script}", encoding="utf-8")
    process = processes.start("commands", ["bash", "commands.sh"])
    assert process.wait(240) == 0, (tmp_path / "commands.log").read_text()
    same_bits(here, tmp_path / "project", checkpoints="again", map_="again.zarr")


def test_every_file_of_the_folder_is_spoken_of() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.name not in ("README.md", "Dockerfile.dockerignore", ".env"):
            name = path.relative_to(DEPLOY).as_posix()
            assert name in README or path.name in README, name


def test_the_paths_in_commands_exist() -> None:
    for path in re.findall(
        r"\bdeploy/[\w./-]+\w", "\n".join(re.findall(r"```sh\n.*?```", README, re.DOTALL))
    ):
        assert (CHECKOUT / path).exists() or path == "deploy/docker/.env", path
