"""The tutorial is run as it stands, with smaller sizes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import DOCS, blocks

# What is made smaller, so that it takes seconds; each must occur in the tutorial.
SMALLER = {
    "(48, 128, 384)": "(32, 64, 192)",
    "[[0, 48], [0, 128], [0, 224]]": "[[0, 32], [0, 64], [0, 112]]",
    "[[0, 48], [0, 128], [224, 288]]": "[[0, 32], [0, 64], [112, 144]]",
    ":,:,224:288": ":,:,112:144",
    ":,:,288:384": ":,:,144:192",
    "[:, :, 288:384]": "[:, :, 144:192]",
    "updates = 2000": "updates = 8",
    "output_size = [20, 20, 20]": "output_size = [8, 8, 8]",
    "validate_every = 500": "validate_every = 4\nvalidation_patches = 2",
}
INSTALLS = "pip install"  # the package is here already

MAIN = "import sys; from znn_dask.cli import main; sys.exit(main())"
PROGRAMS = {
    "python": 'exec "{python}" "$@"\n',
    "znn-dask": f'exec "{{python}}" -c "{MAIN}" "$@"\n',
}


def smaller(text: str) -> str:
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


def shape(line: str) -> str:
    """A line of output without its numbers, units and spaces, which differ from run to run."""
    line = re.sub(r"[\d.,:]*\d", "#", re.sub(r"\s+", " ", line.strip()))
    return re.sub(r"# [kM]voxels", "# voxels", line)


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which `znn-dask` and `python` are those of the tests."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, line in PROGRAMS.items():
        program = folder / name
        program.write_text("#!/bin/sh\n" + line.format(python=sys.executable), encoding="utf-8")
        program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_every_size_that_is_made_smaller_is_there() -> None:
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    for large in SMALLER:
        assert large in text, large


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen programs, each of which compiles its loops
def test_the_tutorial_runs_and_prints_what_it_shows(tmp_path: Path, shell: dict[str, str]) -> None:
    folder = tmp_path / "tutorial"
    folder.mkdir()
    printed: list[str] = []
    ran = 0
    for block in blocks(DOCS / "tutorial.md"):
        if block.file is not None:
            (folder / block.file).write_text(smaller(block.text), encoding="utf-8")
        elif block.language == "sh" and INSTALLS not in block.text:
            done = subprocess.run(
                ["bash", "-ec", smaller(block.text)],
                cwd=folder,
                env=shell,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{block.text}\n{done.stderr}"
            printed = [shape(line) for line in (done.stdout + done.stderr).splitlines()]
            ran += 1
        elif block.language == "text":
            for line in block.text.splitlines():
                assert shape(line) in printed, f"not printed: {line}\nbut: {printed}"
    assert ran >= 9
    assert (folder / "neurons.png").stat().st_size > 1000
    assert (folder / "checkpoints" / "learning-curve.png").is_file()
