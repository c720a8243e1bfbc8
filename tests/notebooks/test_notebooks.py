"""The notebooks run from end to end, and what is kept of them is small and belongs to nobody."""

import re
from pathlib import Path

import nbformat
import pytest
from execute import FOLDER, execute, notebooks, tidy

MOST_BYTES = 2_000_000  # of the folder

NAMES = [path.stem for path in notebooks()]


def test_they_are_numbered_in_the_order_in_which_they_are_read() -> None:
    assert [name[:2] for name in NAMES] == [f"{i:02}" for i in range(1, len(NAMES) + 1)]
    assert len(NAMES) == 5


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs(name: str, tmp_path: Path) -> None:
    done = execute(FOLDER / f"{name}.ipynb", tmp_path)
    text = nbformat.writes(tidy(done, tmp_path))
    assert str(tmp_path) not in text
    kept = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    for now, then in zip(done.cells, kept.cells, strict=True):
        if now.cell_type == "code":
            assert kinds(now) == kinds(then), now.source


def kinds(cell: nbformat.NotebookNode) -> set[str]:
    """Kinds of what a cell shows; lines that come and go with the speed of the machine aside."""
    return {kind for output in cell.outputs for kind in output.get("data", {})}


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_kept_without_the_machine(name: str) -> None:
    kept = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(kept)
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    shown = [kind for cell in code for kind in kinds(cell)]
    assert "text/html" in shown
    assert not any("widget" in kind for kind in shown)
    assert "widgets" not in kept.metadata
    assert kept == tidy(kept, Path("/nowhere"))
    for cell in code:
        assert not any(output.output_type == "error" for output in cell.outputs)
        for output in cell.outputs:
            assert output.get("name") != "stderr", output.text
            for kind in ("text/plain", "text/html"):
                place = re.search(
                    r"/(tmp|home|root|Users)/\w+", output.get("data", {}).get(kind, "")
                )
                assert place is None, place


def test_the_folder_is_small() -> None:
    assert sum(path.stat().st_size for path in notebooks()) < MOST_BYTES


def test_links_between_them_lead_somewhere() -> None:
    for path in notebooks():
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                for target in re.findall(r"\]\(([^)#:]+)\)", cell.source):
                    assert (FOLDER / target).exists(), f"{path.name}: {target}"
