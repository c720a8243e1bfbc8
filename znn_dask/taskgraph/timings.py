"""What was measured on this machine, kept in the user's cache folder for all plans to come.

One small JSON file per processor, library versions and state of this package's code: whoever
changes one of them begins a new file. Anything in it can be measured again, so a damaged file is
ignored.
"""

import fcntl
import functools
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from znn_dask.taskgraph.machine import Machine, processor

# Modules whose code decides how long a typed task takes.
_CODE = (Path(__file__).parents[1] / "kernels", Path(__file__).parent)

_KEPT = 8  # files of other processors, versions and states of the code


class Timing(NamedTuple):
    """Seconds of a typed task as measured, and as counted for the reference core (`TaskCost`)."""

    seconds: float
    counted: float


class Round(NamedTuple):
    """Seconds of one core for a convolution of one update: its passes, and work on its kernels."""

    passes: float
    kernels: float


@dataclass(frozen=True)
class Timings:
    """What is known of a machine.

    Attributes
    ----------
    tasks
        Threads at work -> signature -> timing of such a task while so many threads work.
    constants
        Fields of `Machine` that were measured.
    convolutions
        Conv layer -> method -> rounds of a tuning; the rounds of one layer were taken together.
    """

    tasks: Mapping[int, Mapping[str, Timing]] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    convolutions: Mapping[str, Mapping[str, tuple[Round, ...]]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tasks)

    def merged(self, other: "Timings") -> "Timings":
        """These, overruled by `other`."""
        threads = sorted({*self.tasks, *other.tasks})
        tasks = {t: {**self.tasks.get(t, {}), **other.tasks.get(t, {})} for t in threads}
        return Timings(
            tasks,
            {**self.constants, **other.constants},
            {**self.convolutions, **other.convolutions},
        )

    @property
    def machine(self) -> Machine:
        """The constants, where they were measured."""
        return Machine(**self.constants)


def stored() -> Timings:
    """What was measured on this machine so far; nothing if the file is missing or damaged."""
    return _read(_path())


def store(new: Timings) -> Timings:
    """Add to what is stored, and return it all. Processes may do so at the same time."""
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name("timings.lock")):
            everything = _read(path).merged(new)
            _write(path, everything)
            _forget(path.parent)
    except OSError:  # a home that cannot be written: the next plan measures again
        return _read(path).merged(new)
    return everything


def _path() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "znn-dask" / f"timings-{_fingerprint()}.json"


@functools.cache
def _fingerprint() -> str:
    """Processor, BLAS kernel family if forced, versions and code."""
    digest = hashlib.blake2b(digest_size=8)
    libraries = (version("numpy"), version("llvmlite"))
    settings = (processor(), os.environ.get("OPENBLAS_CORETYPE", ""), *libraries)
    digest.update("\n".join(settings).encode())
    for folder in _CODE:
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield  # closing unlocks


def _forget(folder: Path) -> None:
    """Delete the oldest files: every change of the code leaves one behind."""
    files = sorted(folder.glob("timings-*.json"), key=lambda file: file.stat().st_mtime)
    for file in files[:-_KEPT]:
        file.unlink()


def _read(path: Path) -> Timings:
    try:
        return _from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Timings()


def _from_json(values: Mapping[str, Any]) -> Timings:
    tasks = {
        int(threads): {
            signature: Timing(*map(_positive, pair)) for signature, pair in known.items()
        }
        for threads, known in values["tasks"].items()
    }
    names = {constant.name for constant in fields(Machine)}
    constants = {name: _positive(v) for name, v in values["machine"].items() if name in names}
    convolutions = {
        layer: {
            method: tuple(Round(*map(_positive, pair)) for pair in rounds)
            for method, rounds in methods.items()
        }
        for layer, methods in values.get("convolutions", {}).items()
    }
    return Timings(tasks, constants, convolutions)


def _positive(value: Any) -> float:
    if not (isinstance(value, float | int) and math.isfinite(value) and value >= 0):
        raise ValueError(f"{value!r} is no measurement")
    return float(value)


def _write(path: Path, timings: Timings) -> None:
    """Replace the file at once: who reads sees the old one or the new one."""
    values = {
        "machine": timings.constants,
        "tasks": timings.tasks,
        "convolutions": timings.convolutions,
    }
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(values, file, indent=1)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
