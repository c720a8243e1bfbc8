"""Checkpoints: everything a training needs to continue with the same bits, in one Zarr group each.

A folder holds the checkpoints of one training::

    step-0000001000-20250101T120000Z-1f2e3d4c/
        zarr.json          the settings, as attributes
        parameters/ momenta/ curve/    one array each, not compressed
        commit             written last: sequence number, validation loss, digest of the content

Readers ignore what has no ``commit``: a process may die at any moment while it writes. Names are
unique, so nothing is ever overwritten or renamed, which object stores could not do safely.
"""

import json
import re
import secrets
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from znn_dask.training.state import (
    VERSION,
    CheckpointError,
    CheckpointState,
    content_digest,
    from_content,
    to_arrays,
    to_settings,
    verify,
    zarr_key,
)
from znn_dask.training.storage import Folder, Location, open_folder, split

__all__ = [
    "CheckpointError",
    "CheckpointInfo",
    "CheckpointState",
    "best",
    "latest",
    "list_checkpoints",
    "load_checkpoint",
    "remove_checkpoint",
    "save_checkpoint",
]

ABANDONED = timedelta(hours=1)  # no save takes that long: what is unfinished by then has no writer

_NAME = re.compile(r"step-(?P<step>\d+)-(?P<time>\d{8}T\d{6}Z)-[0-9a-f]{8}")
_TIME = "%Y%m%dT%H%M%SZ"
_PARALLEL = 8  # requests in flight: hides the latency of object stores


@dataclass(frozen=True)
class CheckpointInfo:
    """A complete checkpoint in a folder.

    ``sequence`` counts the saves into that folder; ``validation_loss`` is that measured at exactly
    this step, None when there was none.
    """

    path: Location
    name: str
    step: int
    sequence: int
    validation_loss: float | None
    digest: str


def save_checkpoint(folder: Location, state: CheckpointState, *, keep: int | None = 3) -> Location:
    """Write a checkpoint, then remove those that are no longer needed.

    Args:
        folder: local path or fsspec URL; made when absent.
        state: what to save. When its curve has a validation at ``state.step``, the checkpoint
            competes for `best`.
        keep: how many of the latest checkpoints stay; the best one stays as well. None: all.

    Returns:
        Path (or URL) of the new checkpoint, durable and complete.

    Raises:
        CheckpointError: a parameter is not finite, parameters and momenta disagree, a setting is
            not JSON, ``keep`` is below 1, or the folder cannot be written (no space left).
    """
    if keep is not None and keep < 1:
        raise CheckpointError(f"checkpoint: keep must be at least 1 (or None for all), got {keep}")
    verify(state)
    settings = to_settings(state)
    arrays = to_arrays(state)
    place = open_folder(folder)
    stamp = datetime.now(UTC).strftime(_TIME)
    name = f"step-{state.step:010d}-{stamp}-{secrets.token_hex(4)}"
    try:
        _remove_abandoned(place)
        _write(place.store(name, read_only=False), settings, arrays)
        commitment = {
            "sequence": 1 + max((info.sequence for info in _list(place)), default=0),
            "step": state.step,
            "validation_loss": state.curve.validated_at(state.step),
            "sha256": content_digest(settings, arrays),
        }
        place.commit(name, json.dumps(commitment).encode())
        if keep is not None:
            _prune(place, keep)
    except OSError as error:
        raise CheckpointError(
            f"{place.location(name)}: cannot be written: {error.strerror or error}; "
            "earlier checkpoints are as they were"
        ) from error
    return place.location(name)


def load_checkpoint(path: Location) -> CheckpointState:
    """Read one checkpoint, or the latest of a folder.

    A damaged checkpoint in a folder (say, after a power failure) is passed over with a warning
    for the one before it.

    Raises
    ------
    CheckpointError
        There is none, it is not complete, its content does not match its digest, or its format is
        newer than this program.
    """
    folder, name = split(path)
    if folder.commitment(name) is not None:
        return _load(folder, name)
    if _NAME.fullmatch(name) and name in folder.names():
        raise CheckpointError(
            f"{path}: this checkpoint was never finished (it has no commit object); "
            "load the folder it is in to get the latest finished one"
        )
    place = open_folder(path)
    damage = None
    for info in reversed(_list(place)):
        try:
            state = _load(place, info.name)
        except CheckpointError as error:
            damage = damage or error
            continue
        if damage is not None:
            warnings.warn(f"{damage}; using {info.path} instead", UserWarning, stacklevel=2)
        return state
    raise damage or CheckpointError(f"{path}: no finished checkpoint here")


def list_checkpoints(folder: Location) -> list[CheckpointInfo]:
    """Complete checkpoints in the order in which they were saved."""
    return _list(open_folder(folder))


def latest(folder: Location) -> Location | None:
    """The checkpoint saved last (not: of the highest step), None without one."""
    infos = list_checkpoints(folder)
    return infos[-1].path if infos else None


def remove_checkpoint(path: Location) -> None:
    """Remove one checkpoint, so that it is never complete and damaged."""
    folder, name = split(path)
    folder.remove(name)


def best(folder: Location) -> Location | None:
    """The checkpoint of least validation loss, the first one of several; None without one."""
    found = _best(list_checkpoints(folder))
    return found.path if found else None


def _write(store: Store, settings: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    group = zarr.create_group(store, attributes=settings)
    for part in ("parameters", "momenta", "curve"):
        group.create_group(part)

    def write(path: str) -> None:
        array = arrays[path]
        group.create_array(
            zarr_key(path),
            data=array,
            chunks=tuple(max(1, edge) for edge in array.shape),
            compressors=None,
            # Zarr leaves out chunks that equal the fill value, and takes -0.0 for 0.0.
            config={"write_empty_chunks": True},
        )

    with ThreadPoolExecutor(_PARALLEL) as pool:
        list(pool.map(write, arrays))


def _best(infos: list[CheckpointInfo]) -> CheckpointInfo | None:
    scored = [
        (info.validation_loss, info.sequence) for info in infos if info.validation_loss is not None
    ]
    if not scored:
        return None
    sequence = min(scored)[1]
    return next(info for info in infos if info.sequence == sequence)


def _list(folder: Folder) -> list[CheckpointInfo]:
    infos = []
    for name in folder.names():
        commitment = folder.commitment(name) if _NAME.fullmatch(name) else None
        if commitment is None:
            continue
        try:
            record = json.loads(commitment)
            infos.append(
                CheckpointInfo(
                    path=folder.location(name),
                    name=name,
                    step=record["step"],
                    sequence=record["sequence"],
                    validation_loss=record["validation_loss"],
                    digest=record["sha256"],
                )
            )
        except (ValueError, KeyError, TypeError):
            continue  # a torn commit object commits nothing
    return sorted(infos, key=lambda info: (info.sequence, info.name))


def _prune(folder: Folder, keep: int) -> None:
    infos = _list(folder)
    champion = _best(infos)
    for info in infos[:-keep]:
        if info != champion:
            folder.remove(info.name)


def _remove_abandoned(folder: Folder) -> None:
    now = datetime.now(UTC)
    for name in folder.names():
        match = _NAME.fullmatch(name)
        if match is None or folder.commitment(name) is not None:
            continue
        started = datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC)
        if now - started > ABANDONED:
            folder.remove(name)


def _load(folder: Folder, name: str) -> CheckpointState:
    path = folder.location(name)
    try:
        record = json.loads(folder.commitment(name) or b"")
        group = zarr.open_group(folder.store(name, read_only=True), mode="r")
        settings: dict[str, Any] = dict(group.attrs)
        version = settings["version"]
        if version > VERSION:
            raise CheckpointError(
                f"{path}: checkpoint format {version} is newer than {VERSION}, the newest that "
                "this version of znn_dask reads; update znn_dask"
            )
        paths = settings["arrays"]

        def read(array_path: str) -> np.ndarray:
            array = group[zarr_key(array_path)]
            assert isinstance(array, zarr.Array)
            return np.asarray(array[...])

        with ThreadPoolExecutor(_PARALLEL) as pool:
            arrays = dict(zip(paths, pool.map(read, paths), strict=True))
        digest = content_digest(settings, arrays)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a damaged object makes Zarr, JSON or a codec raise
        raise CheckpointError(
            f"{path}: damaged checkpoint: {type(error).__name__} {' '.join(str(error).split())}"
        ) from error
    if digest != record["sha256"]:
        raise CheckpointError(
            f"{path}: damaged checkpoint: its content has digest {digest[:12]}, "
            f"its commit object says {record['sha256'][:12]}"
        )
    return from_content(settings, arrays)
