"""Run the notebooks and keep their outputs: `python notebooks/execute.py [01-quick-start ...]`.

Each runs in an empty folder of its own, as after a fresh download. Only what others can use stays:
no widgets, which need the kernel that made them, no times of cells, no name of this machine.
"""

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent
SECONDS = 120  # for a cell, on a machine that does other things too
_WIDGET = "application/vnd.jupyter.widget-view+json"


def notebooks() -> list[Path]:
    """All of them, in the order in which they are read."""
    return sorted(FOLDER.glob("[0-9]*.ipynb"))


def execute(path: Path, folder: Path) -> NotebookNode:
    """The notebook with the outputs of a run in `folder`; raises CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=SECONDS, resources=resources, kernel_name="python3", record_timing=False
    )
    client.execute()
    return notebook


def tidy(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """The notebook without what belongs to the machine, the kernel and the moment of its run."""
    notebook.metadata = NotebookNode(
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        language_info={"name": "python"},
    )
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number:02}", NotebookNode()
        outputs = []
        for output in cell.get("outputs", []):
            if "data" in output:
                widget = output.data.pop(_WIDGET, None)
                alone = widget is not None and set(output.data) <= {"text/plain"}
                if alone or output.data.get("text/plain") == "":
                    continue  # of a progress bar, say, nothing is left to look at
                output.metadata = NotebookNode()
                output.data.update({k: _plain(v, folder) for k, v in output.data.items()})
            if "text" in output:
                output.text = _plain(output.text, folder)
            outputs.append(output)
        if cell.cell_type == "code":
            cell.outputs = outputs
    return notebook


def _plain(content: object, folder: Path) -> object:
    """Text without the place where it was made."""
    if not isinstance(content, str):
        return content
    return re.sub(r"(inproc|tcp)://[\w.:/]+", r"\1://...", content.replace(f"{folder}/", ""))


def main(names: list[str]) -> None:
    """Execute those notebooks, all when none is named, and write them with their outputs."""
    for path in notebooks():
        if names and path.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            done = tidy(execute(path, Path(folder)), Path(folder))
        nbformat.write(done, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
