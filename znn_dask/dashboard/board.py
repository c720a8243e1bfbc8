"""What the scheduler keeps for the page: the last messages of jobs and the figures of workers.

Plain state without clocks, Dask or Bokeh: times come in as arguments, in seconds since 1970. All of
it is bounded, however long a scheduler lives.
"""

import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RATE_SECONDS = 30.0
"""Rates, shares and times per layer are means over so long."""

MOST_JOBS = 24
_KEPT_SECONDS = 60.0
_MOST_BLOCKS = 1 << 24

KINDS = ("training", "prediction")

Layer = tuple[str, str]
"""(kind, layer) of typed tasks."""


@dataclass
class JobRecord:
    """One training or prediction.

    Attributes
    ----------
    message
        The last one.
    begun, heard
        When the first and the last message came.
    progress
        (time, updates made or blocks done) of late.
    seconds
        Process -> seconds of its threads by kind and layer, since it began with this job.
    history
        (time, updates or blocks, all those seconds) of late.
    lost
        Its driver has gone without a word.
    """

    message: dict[str, Any]
    begun: float
    heard: float
    progress: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=120))
    seconds: dict[str, dict[Layer, float]] = field(default_factory=dict)
    history: deque[tuple[float, int, dict[Layer, float]]] = field(
        default_factory=lambda: deque(maxlen=120)
    )
    lost: bool = False

    @property
    def running(self) -> bool:
        return self.message["state"] == "running" and not self.lost

    @property
    def reached(self) -> int:
        """Updates made, or blocks done."""
        return self.progress[-1][1] if self.progress else 0


@dataclass
class ProcessRecord:
    """One process with workers; several of one process share their engines.

    Attributes
    ----------
    workers
        Addresses of its workers.
    threads, memory, memory_limit
        Of all these; bytes.
    engines
        Number of an engine -> its seconds in jobs of type 1, type 2, and forced.
    busy
        These, summed since the process was first seen.
    history
        (time, busy) of late.
    spectra
        (time, bytes by what they are the spectra of) of late.
    heard
        When its figures last came.
    """

    workers: tuple[str, ...] = ()
    host: str = ""
    threads: int = 0
    memory: int = 0
    memory_limit: int = 0
    engines: dict[str, tuple[float, ...]] = field(default_factory=dict)
    busy: tuple[float, ...] = (0.0, 0.0, 0.0)
    history: deque[tuple[float, tuple[float, ...]]] = field(
        default_factory=lambda: deque(maxlen=120)
    )
    spectra: deque[tuple[float, dict[str, int]]] = field(default_factory=lambda: deque(maxlen=120))
    heard: float = 0.0


@dataclass(frozen=True)
class WorkerFigures:
    """What the scheduler knows of one worker; `figures` is `cluster.figures.process_figures`."""

    address: str
    threads: int
    memory: int
    memory_limit: int
    figures: Mapping[str, Any]


def nothing(address: str) -> dict[str, Any]:
    """Figures of a worker that has done nothing for this package yet."""
    return {"process": address, "host": "", "engines": {}, "seconds": {}, "spectra": {}}


class Board:
    """What arrived at a scheduler, bounded in every direction."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobRecord] = {}
        self.processes: dict[str, ProcessRecord] = {}

    def receive(self, message: dict[str, Any], now: float) -> None:
        """Take a message of a driver.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is none that this version knows; the board is as it was.
        """
        kind, name = message["kind"], str(message["id"])
        if kind not in KINDS:
            raise ValueError(f"message about a {kind!r}, known are {' and '.join(KINDS)}")
        reached = int(message["step"] if kind == "training" else done_blocks(message).sum())
        job = self.jobs.get(name)
        if job is None:
            job = self.jobs[name] = JobRecord(message, now, now)
            self._forget_jobs()
        elif job.message["job"] != message["job"] or reached < job.reached:
            job.progress.clear()  # `fit` was called again, or updates are made again
            job.history.clear()
        job.message, job.heard, job.lost = message, now, False
        job.progress.append((now, reached))

    def left(self, client: str) -> None:
        """A client is gone; what it drove is not running any more."""
        for job in self.jobs.values():
            if job.message.get("client") == client and job.running:
                job.lost = True

    def sample(self, workers: list[WorkerFigures], now: float) -> None:
        """Take the figures of the workers that are there."""
        by_process: dict[str, list[WorkerFigures]] = {}
        for worker in workers:
            by_process.setdefault(str(worker.figures["process"]), []).append(worker)
        for process, members in by_process.items():
            record = self.processes.setdefault(process, ProcessRecord())
            _update(record, members, now)
            for tally, rows in members[0].figures["seconds"].items():
                self._count(tally, process, rows)
        self.processes = {process: self.processes[process] for process in by_process}
        for job in self.jobs.values():
            if job.running:
                total: dict[Layer, float] = {}
                for spent in job.seconds.values():
                    for layer, seconds in spent.items():
                        total[layer] = total.get(layer, 0.0) + seconds
                job.history.append((now, job.reached, total))
                _drop_old(job.history, now)
                _drop_old(job.progress, now)

    def _count(self, tally: str, process: str, rows: list[list[Any]]) -> None:
        for job in self.jobs.values():
            if not job.running or not belongs(tally, job):
                continue
            spent = {(str(kind), str(layer)): float(seconds) for kind, layer, seconds in rows}
            if process not in job.seconds and len(job.seconds) >= _MOST_PROCESSES:
                job.seconds.pop(next(iter(job.seconds)))
            job.seconds[process] = spent

    def _forget_jobs(self) -> None:
        while len(self.jobs) > MOST_JOBS:
            ended = [name for name, job in self.jobs.items() if not job.running]
            del self.jobs[ended[0] if ended else next(iter(self.jobs))]


_MOST_PROCESSES = 1024


def belongs(tally: str, job: JobRecord) -> bool:
    """Whether a tally of that name, or a task with it in its key, is the job's."""
    name = str(job.message["job"])
    return bool(name) and (tally == name or tally.startswith(f"{name}-"))


def done_blocks(message: Mapping[str, Any]) -> np.ndarray:
    """(n,) bool: which blocks of a prediction are done, in C order over its grid.

    Raises ValueError for a message that cannot be.
    """
    z, y, x = (int(n) for n in message["grid"])
    count = z * y * x
    if not 0 < count <= _MOST_BLOCKS:
        raise ValueError(f"a grid of {count} blocks, at most {_MOST_BLOCKS} can be shown")
    size = -(-count // 8)
    bits = zlib.decompressobj().decompress(bytes(message["done"]), size)
    if len(bits) != size:
        raise ValueError(f"{len(bits)} bytes for {count} blocks")
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=count).astype(bool)


def _update(record: ProcessRecord, members: list[WorkerFigures], now: float) -> None:
    figures = members[0].figures
    record.workers = tuple(sorted(worker.address for worker in members))
    record.host = str(figures["host"])
    record.threads = sum(worker.threads for worker in members)
    record.memory = max(worker.memory for worker in members)
    record.memory_limit = sum(worker.memory_limit for worker in members)
    spectra = {str(what): int(size) for what, size in figures["spectra"].items()}
    record.spectra.append((now, spectra))
    _drop_old(record.spectra, now)
    engines = {str(n): tuple(float(s) for s in row[:3]) for n, row in figures["engines"].items()}
    for number, seconds in engines.items():
        before = record.engines.get(number, (0.0, 0.0, 0.0) if record.history else seconds)
        record.busy = tuple(
            total + new - old for total, new, old in zip(record.busy, seconds, before, strict=True)
        )
    record.engines = engines
    record.history.append((now, record.busy))
    _drop_old(record.history, now)
    record.heard = now


def _drop_old(history: deque[Any], now: float) -> None:
    while len(history) > 1 and now - history[1][0] > _KEPT_SECONDS:
        history.popleft()
