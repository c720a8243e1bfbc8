"""Copying what a job made to a local folder, through whoever sees the job's folder.

::

    job.json                        what was done
    log.txt
    checkpoints/step-.../           the latest and the best, as `znn-dask predict` takes them
    learning-curve.png .json        of a training
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import fsspec

from znn_dask.jobs import entries
from znn_dask.jobs.access import Access
from znn_dask.jobs.folder import open_folder
from znn_dask.jobs.log import Position
from znn_dask.training.checkpoint import load_checkpoint
from znn_dask.training.from_config import save_curve
from znn_dask.training.storage import COMMIT

_TRIES = 3
_BYTES = 1 << 24  # that travel in one message


def fetch(access: Access, job: str, folder: Path, say: Callable[[str], None]) -> None:
    """Copy what there is; what was copied before is left as it is.

    Raises JobsError for an unknown job, OSError where the folder cannot be written.
    """
    history = access.run(entries.history, job)
    target = open_folder(folder.absolute())
    target.write("job.json", json.dumps(asdict(history.description), indent=1).encode())
    target.write("log.txt", access.run(entries.log_after, job, Position())[0].encode())
    say(f"log: {folder}/log.txt")
    if history.description.kind == "prediction":
        say(f"map: {history.description.request['out']} (on the cluster)")
        return
    for left in reversed(range(_TRIES)):
        try:
            _fetch_checkpoints(access, job, folder, say)
            return
        except FileNotFoundError:
            if not left:
                raise
            # A training that goes on removes old checkpoints; there is a newer one.


def _fetch_checkpoints(access: Access, job: str, folder: Path, say: Callable[[str], None]) -> None:
    found = access.run(entries.checkpoints, job)
    for word, place in (("best", found.best), ("latest", found.latest)):
        if place is not None:
            local = folder / "checkpoints" / place.rpartition("/")[2]
            _copy(access, place, local)
            say(f"{word} checkpoint: {local}")
    if found.latest is not None:
        state = load_checkpoint(folder / "checkpoints" / found.latest.rpartition("/")[2])
        say(f"learning curve: {save_curve(state, str(folder))}")


def _copy(access: Access, source: str, target: Path) -> None:
    """A checkpoint, its commit last: it is complete or ignored."""
    folder = open_folder(target.absolute())
    if folder.read(COMMIT) is not None:
        return
    names = access.run(_files, source)
    for name in sorted(names, key=lambda name: (name == COMMIT, name)):
        content = b""
        while len(content) < names[name]:
            content += access.run(_part, f"{source}/{name}", len(content), _BYTES)
        folder.write(name, content)


def _files(_location: str, source: str) -> dict[str, int]:
    """Name -> bytes of the files below `source`."""
    fs, root = fsspec.core.url_to_fs(source)
    found = fs.find(root, detail=True)
    return {name.removeprefix(root).lstrip("/"): info["size"] for name, info in found.items()}


def _part(_location: str, place: str, offset: int, count: int) -> bytes:
    fs, path = fsspec.core.url_to_fs(place)
    return bytes(fs.cat_file(path, start=offset, end=offset + count))
