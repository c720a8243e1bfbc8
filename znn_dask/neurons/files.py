"""Files and folders that appear whole."""

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from znn_dask.neurons.errors import NeuronError

PARTIAL = ".*.partial.*"
"""Names of files that are being written."""


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, then put it there by a rename.

    The name ends as `path` does, by which some writers know the format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.partial.{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that appears whole."""
    text = json.dumps(content, indent=1) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def local_path(out: str | Path) -> Path:
    """`out` as an absolute path that workers on this file system know too.

    Raises NeuronError for a URL of an object store.
    """
    text = str(out).removeprefix("file://")
    if "://" in text:
        raise NeuronError(
            f"{text}: files are finished by a rename, which object stores lack; "
            "write to a local path and copy"
        )
    return Path(text).absolute()
