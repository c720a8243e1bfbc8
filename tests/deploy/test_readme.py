"""deploy/README.md: what it says about one machine is run as it stands there."""

import re
from pathlib import Path

import pytest
from machines import CHECKOUT, DEPLOY, Processes, free_port, same_bits, write_project

README = (DEPLOY / "README.md").read_text(encoding="utf-8")
# A machine under load takes longer than a reader waits.
WAIT = """python -c '
from distributed import Client
with Client("tls://127.0.0.1:8786", timeout=100) as client:
    client.wait_for_workers(1, timeout=100)
'
"""


def blocks(heading: str) -> list[str]:
    """Shell blocks of a section."""
    section = re.split(r"^## ", README.partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


@pytest.mark.cluster
def test_one_machine_with_and_without_processes(
    processes: Processes, environment: dict[str, str], tmp_path: Path
) -> None:
    (inside,) = blocks("One machine")
    make, outside = blocks("The cluster's folder")
    outside, waits = re.subn(r"^sleep 10 .*\n", WAIT, outside, flags=re.MULTILINE)
    assert waits == 1
    for port in ("8786", "8787"):
        outside = outside.replace(port, str(free_port()))
    predict = "znn-dask predict project/again project/volume.zarr/image project/again.zarr\n"
    scripts = {"one": inside + predict, "other": make + outside}
    for name, script in scripts.items():
        folder = tmp_path / name
        write_project(folder / "project")
        (folder / "deploy").symlink_to(DEPLOY)
        file = folder / "commands.sh"
        file.write_text(f"set -eu\n{script}", encoding="utf-8")
        process = processes.start(name, ["bash", "-c", f"cd {folder} && exec bash commands.sh"])
        assert process.wait(240) == 0, (processes.folder / f"{name}.log").read_text()
    same_bits(*(tmp_path / name / "project" for name in scripts), names=("again", "again.zarr"))


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
