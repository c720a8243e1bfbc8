"""What a worker tells of its engines with every heartbeat: figures for the dashboard.

They are read from counters that the engines keep anyhow. All are sums since something began, so
that who misses some heartbeats loses nothing.
"""

import functools
import os
import socket
import uuid
from typing import Any

from distributed import Worker

from znn_dask.taskgraph.census import ENGINES, TALLIES, spectra_bytes

FIGURES = "znn-figures"
"""Name of the worker's metric."""

_MOST_TALLIES, _MOST_LAYERS = 32, 256


def tell(worker: Worker) -> None:
    """Send the figures of this worker's process with its heartbeats from now on."""
    worker.metrics[FIGURES] = lambda worker: process_figures()


def process_figures() -> dict[str, Any]:
    """What engines of this process did and hold; plain values.

    `"process"`: which process it is, as workers may share one; `"host"`; `"engines"`: number of the
    engine -> seconds in jobs of type 1, of type 2, and forced, and jobs; `"seconds"`: name of a
    training or prediction -> (kind, layer, seconds of all threads); `"spectra"`: see
    `spectra_bytes`.
    """
    engines = {}
    for engine in ENGINES:
        total = engine.totals()
        if total.jobs:
            done = (total.type1, total.type2, total.forced)
            engines[str(engine.number)] = [*(round(seconds, 3) for seconds in done), total.jobs]
    seconds: dict[str, list[list[Any]]] = {}
    for tally in list(TALLIES)[-_MOST_TALLIES:]:
        # Copied in one go: threads of the engine count meanwhile.
        counts = tuple(tally.seconds.items())[:_MOST_LAYERS]
        if counts:
            rows = seconds.setdefault(tally.name, [])
            rows.extend([*what, round(spent, 4)] for what, spent in counts)
    return {
        "process": _process(),
        "host": socket.gethostname(),
        "engines": engines,
        "seconds": seconds,
        "spectra": spectra_bytes(),
    }


@functools.cache
def _process() -> str:
    # With something random: another process may get the same number later.
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
