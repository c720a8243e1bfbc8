"""What to show of a board: plain values with units in their names, the same for page and JSON."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from znn_dask.dashboard.board import (
    RATE_SECONDS,
    Board,
    JobRecord,
    Layer,
    ProcessRecord,
    belongs,
    done_blocks,
)

PASSES = {
    "forward": ("forward", "loss"),
    "backward": ("backward", "input_gradient"),
    "kernel gradients": ("kernel_gradient", "bias_gradient", "input_spectrum"),
    "updates": ("update", "bias_update"),
    "kernel FFTs": ("kernel_spectrum",),
    "loading": ("load",),
}
"""Pass -> kinds of typed tasks that it is made of."""

SHARES = ("type-1", "type-2", "forced", "idle")

_PASS_OF = {kind: name for name, kinds in PASSES.items() for kind in kinds}
_PATCHES = "patches"  # stands for a layer where a task belongs to none
_SILENT_SECONDS = 5.0

Tasks = Collection[tuple[str, int]]
"""(prediction and attempt, block) of the blocks under way."""


def view(board: Board, now: float, blocks: Tasks = ()) -> dict[str, Any]:
    """All that the page shows; running jobs first, then the others, the latest first."""
    jobs = sorted(board.jobs.items(), key=lambda item: (not item[1].running, -item[1].begun))
    trainings = [(name, job) for name, job in jobs if job.message["kind"] == "training"]
    predictions = [(name, job) for name, job in jobs if job.message["kind"] == "prediction"]
    return {
        "time": now,
        "trainings": [_training(name, job, now) for name, job in trainings],
        "predictions": [_prediction(name, job, now, blocks) for name, job in predictions],
        "workers": [
            _process(record)
            for record in sorted(board.processes.values(), key=lambda p: (p.host, p.workers))
        ],
    }


def _common(name: str, job: JobRecord, now: float, last: int) -> dict[str, Any]:
    rate = _rate(job, now)
    left = last - job.reached
    return {
        "id": name,
        "title": job.message["title"],
        "state": "lost" if job.lost else job.message["state"],
        "message": job.message["message"],
        "begun": job.message["began"],
        "silent_seconds": max(0.0, now - job.heard) if job.running else 0.0,
        "seconds_left": left / rate if job.running and rate else None,
        "rate": rate,
    }


def _training(name: str, job: JobRecord, now: float) -> dict[str, Any]:
    message = job.message
    common = _common(name, job, now, message["last"])
    rate = common.pop("rate")
    return {
        **common,
        "folder": message["folder"],
        "step": message["step"],
        "last": message["last"],
        "updates_per_second": rate,
        "voxels_per_second": None if rate is None else rate * message["voxels"],
        "loss_name": message["loss_name"],
        "loss": _last(message["train"]["loss"]),
        "validation_loss": _last(message["validation"]["loss"]),
        "best": message["best"],
        "eta": message["eta"],
        "checkpoint": message["saved"],
        "curve": {"training": message["train"], "validation": message["validation"]},
        "layers_unit": "ms of one thread per update",
        "layers": _layers(job, dict(_nodes(message["layers"]))),
    }


def _prediction(name: str, job: JobRecord, now: float, blocks: Tasks) -> dict[str, Any]:
    message = job.message
    done = done_blocks(message)
    common = _common(name, job, now, len(done))
    rate = common.pop("rate")
    begun = [block for run, block in blocks if job.running and belongs(run, job)]
    # They begin in order: an earlier one that is not under way is finished, which the driver is
    # about to say.
    reach = min(max(begun, default=-1) + 1, len(done))
    running = np.flatnonzero(~done[:reach]).tolist()
    mean = math.prod(message["shape"]) / len(done)
    return {
        **common,
        "place": message["place"],
        "shape": message["shape"],
        "grid": message["grid"],
        "block": message["block"],
        "blocks": len(done),
        "done": int(done.sum()),
        "done_earlier": message["earlier"],
        "running": running,
        "blocks_per_second": rate,
        "voxels_per_second": None if rate is None else rate * mean,
        "done_ranges": _ranges(done.nonzero()[0].tolist()),
        "layers_unit": "ms of one thread per block",
        "layers": _layers(job, {}),
    }


def _rate(job: JobRecord, now: float) -> float | None:
    """Updates or blocks a second of late; None before there were two messages."""
    recent = [(at, n) for at, n in job.progress if job.heard - at <= RATE_SECONDS]
    if not job.running or len(recent) < 2:
        return None
    (begin, first), (end, last) = recent[0], recent[-1]
    if now - end > _SILENT_SECONDS:
        end = now  # nothing came since
    return (last - first) / (end - begin) if end > begin else None


def _nodes(layers: list[Any]) -> list[tuple[str, str]]:
    """(name of a node or edge group, node group that it belongs to), in the network's order."""
    pairs = [(str(node), str(node)) for node, _ in layers]
    return pairs + [(str(edge), str(node)) for node, edges in layers for edge in edges]


def _layers(job: JobRecord, node_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """Milliseconds by layer and pass, over the updates or blocks of late.

    The tasks of an edge group count for the node group behind it: a layer is both.
    """
    if len(job.history) < 2:
        return []
    end, reached, spent = job.history[-1]
    recent = (entry for entry in job.history if end - entry[0] <= RATE_SECONDS)
    _, first, before = next(recent)
    if reached <= first:
        return []
    order = list(dict.fromkeys(node_of.values()))
    rows: dict[str, dict[str, float]] = {name: {} for name in order}
    for layer, seconds in spent.items():
        gone = max(0.0, seconds - before.get(layer, 0.0))
        row, what = _place(layer, node_of)
        passes = rows.setdefault(row, {})
        passes[what] = passes.get(what, 0.0) + 1000 * gone / (reached - first)
    return [
        {"layer": name, "passes": {what: row[what] for what in PASSES if row.get(what)}}
        for name, row in rows.items()
        if any(row.values())
    ]


def _place(layer: Layer, node_of: Mapping[str, str]) -> tuple[str, str]:
    kind, name = layer
    what = _PASS_OF.get(kind, kind)
    if kind == "load":
        return _PATCHES, what
    if kind == "loss":
        return "loss", what
    return node_of.get(name, name), what


def _process(record: ProcessRecord) -> dict[str, Any]:
    return {
        "name": _short(record.workers),
        "workers": list(record.workers),
        "host": record.host,
        "threads": record.threads,
        "shares": shares(record),
        "spectra_bytes": _most_spectra(record),
        "memory_bytes": record.memory,
        "memory_limit_bytes": record.memory_limit,
    }


def shares(record: ProcessRecord) -> dict[str, float] | None:
    """Of the time of a process's threads of late, by `SHARES`; they add up to 1.

    None before there were two heartbeats.
    """
    recent = [(at, busy) for at, busy in record.history if record.heard - at <= RATE_SECONDS]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
        return None
    (begin, first), (end, last) = recent[0], recent[-1]
    spent = [max(0.0, b - a) for a, b in zip(first, last, strict=True)]
    # A job counts when it ends, so a long one may seem to take more than there was.
    whole = max(record.threads * (end - begin), sum(spent))
    found = [seconds / whole for seconds in spent]
    return dict(zip(SHARES, [*found, max(0.0, 1 - sum(found))], strict=True))


def _most_spectra(record: ProcessRecord) -> dict[str, int]:
    """When there were most of late: within a step they come and go."""
    recent = [held for at, held in record.spectra if record.heard - at <= RATE_SECONDS]
    return max(recent, key=lambda held: sum(held.values())) if recent else {}


def _short(workers: tuple[str, ...]) -> str:
    first = workers[0].partition("://")[2] or workers[0]
    if workers[0].startswith("inproc"):
        first = "in-process"
    return first if len(workers) == 1 else f"{first} +{len(workers) - 1}"


def _last(values: list[float]) -> float | None:
    return values[-1] if values else None


def _ranges(numbers: list[int]) -> list[list[int]]:
    """Sorted numbers as [first, last] of each unbroken row of them."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
