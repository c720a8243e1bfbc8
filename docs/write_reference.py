"""Writes the pages of the reference that follow from the code.

    python docs/write_reference.py

Run it after a change of a command, of the configuration or of a public name; a test says when.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

import znn_dask
from znn_dask.cli.app import app
from znn_dask.training.config import example_config
from znn_dask.training.config_schema import Config

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/write_reference.py; do not edit. -->\n"

COMMANDS = """\
# Commands

`znn-dask --help` lists the commands, `znn-dask COMMAND --help` says the same as this page. Sizes
and voxel sizes are `Z,Y,X`; regions are `Z:Z,Y:Y,X:X`, where a range may be left open
(`0:100,:,190:250`).

What you gave wrong ends as one line that says what to do, and exit code 2, with nothing half
written. Ctrl-C ends with code 130. `ZNN_DASK_TRACEBACK=1` in the environment shows where an error
came from. Progress and messages go to standard error, results to standard output.

A network (NET) is a `.znn` file, a ZNN `.h5` file, a checkpoint, or a name in the zoo.
"""

CONFIGURATION = """\
# Configuration keys

The keys of the TOML file that `znn-dask train` reads. Paths are relative to the file. A misspelt
key, a wrong type or a value out of range ends with one line that names the key, its value, what is
expected, and the nearest key that exists. `--set section.key=value` on the command line overrides
one. [Train well](../how-to/train-well.md) says which matter.

`[execution]` decides time and memory, never the result but for its rounding. All else decides the
result and is kept in the checkpoints.
"""

PYTHON = """\
# Python

What `import znn_dask as znn` offers. Axes are z, y, x; arrays with channels are c, z, y, x; voxel
sizes are in nanometres. In a Python session `help(znn.Trainer)` shows the same text.
"""

ROOMS = {
    "network": "Networks",
    "data": "Data",
    "training": "Training",
    "jobs": "Jobs",
    "inference": "Prediction",
    "segmentation": "Segmentation and scores",
    "neurons": "Neurons",
    "taskgraph": "Plans",
    "cluster": "Clusters",
}


def commands() -> str:
    """The page of the command line, from the commands' docstrings."""
    names = [name for name in app if not name.startswith("-")]
    sections = [
        app[name].generate_docs(heading_level=2, usage_name=f"znn-dask {name}") for name in names
    ]
    return "\n".join([NOTE + COMMANDS, *map(_tidy, sections)])


def configuration() -> str:
    """The page of the configuration, from the schema and the commented example."""
    parts = [NOTE + CONFIGURATION]
    meanings = dict(_meanings(example_config()))
    for section, paths in _sections(Config).items():
        parts.append(f"## {' and '.join(paths)}\n")
        parts.append("| key | meaning | default | what is expected |\n|---|---|---|---|")
        for key, field in section.model_fields.items():
            if not _tables(field):
                default = "required" if field.is_required() else _toml(field.default)
                meaning = meanings[paths[0].strip("[]"), key]
                parts.append(f"| `{key}` | {meaning} | {default} | {field.description} |")
        parts.append("")
    parts.append("## An example\n\nWhat `znn-dask train --example` prints:\n")
    parts.append(f"```toml\n{example_config()}```\n")
    return "\n".join(parts)


def python() -> str:
    """The page of the public names: what each is in one line; the site adds the rest."""
    rooms: dict[str, list[str]] = {room: [] for room in ROOMS}
    for name in sorted(znn_dask.__all__, key=lambda name: (name.lower(), name)):
        rooms[znn_dask._HOMES[name].split(".")[1]].append(name)
    parts = [NOTE + PYTHON]
    for room, names in rooms.items():
        if names:
            parts.append(f"## {ROOMS[room]}\n\n| name | what it is |\n|---|---|")
            parts += [f"| [`{name}`](#znn_dask.{name}) | {_summary(name)} |" for name in names]
            parts += ["", *(f"::: znn_dask.{name}\n" for name in names)]
    return "\n".join(parts)


PAGES = {
    "command-line.md": commands,
    "reference/configuration.md": configuration,
    "reference/python.md": python,
}


def _tidy(section: str) -> str:
    """Options on one line each, examples as blocks of shell, no table of contents."""
    section = re.sub(r"^## Table of Contents\n\n(- .*\n)+\n", "", section, flags=re.MULTILINE)
    lines: list[str] = []
    sample = False
    for line in section.strip().splitlines():
        if line.startswith("    ") and lines[-1].startswith("* "):
            lines[-1] += " " + line.strip()
        elif line.startswith("    "):
            lines += [] if sample else ["```sh"]
            lines.append(line[4:])
            sample = True
        else:
            lines += ["```"] if sample else []
            lines.append(re.sub(r"^(#+) znn-dask ", r"\1 ", line))
            sample = False
    return "\n".join([*lines, "```"] if sample else lines) + "\n"


def _summary(name: str) -> str:
    text = (inspect.getdoc(getattr(znn_dask, name)) or "").partition("\n\n")[0]
    return " ".join(text.split()).replace("|", "\\|")


def _sections(model: type[BaseModel], path: str = "") -> dict[type[BaseModel], list[str]]:
    """Every kind of table with plain keys, and the headings under which it may stand."""
    found: dict[type[BaseModel], list[str]] = {}
    for key, field in model.model_fields.items():
        for section in _tables(field):
            inner = f"{path}.{key}" if path else key
            heading = f"[{inner}]" if section is field.annotation else f"[[{inner}]]"
            found.setdefault(section, []).append(heading)
            for deeper, headings in _sections(section, inner).items():
                found.setdefault(deeper, []).extend(headings)
    return found


def _tables(field: FieldInfo) -> list[type[BaseModel]]:
    """The section that a field holds, one or many times; none for a plain value."""
    kinds = (field.annotation, *get_args(field.annotation))
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _meanings(example: str) -> Iterator[tuple[tuple[str, str], str]]:
    """((section, key), comment) of every key in the commented configuration."""
    section = key = ""
    words: list[str] = []
    for line in [*example.splitlines(), ""]:
        table = re.match(r"\[+([\w.]+)\]+", line)
        entry = re.match(r"(?:# )?(\w+) = (?:[^#]*?)(?:\s+# (.*))?$", line)
        more = re.match(r"(?:# )?\s+# (.*)$", line)
        if more and key:
            words.append(more[1])
            continue
        if key:
            yield (section, key), " ".join(words)
            key = ""
        if table:
            section = table[1]
        elif entry:
            key, words = entry[1], [entry[2] or ""]


def _toml(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


if __name__ == "__main__":
    for page, write in PAGES.items():
        (DOCS / page).write_text(write(), encoding="utf-8")
