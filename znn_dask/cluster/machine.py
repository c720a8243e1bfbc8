"""What Dask takes, and the way between two workers: measured on a throw-away cluster here."""

import statistics
import time
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from distributed import Client, wait

from znn_dask.cluster.local import local_cluster
from znn_dask.cluster.members import present_workers
from znn_dask.taskgraph import dask_graph
from znn_dask.taskgraph.granules import Granule, Key
from znn_dask.taskgraph.timings import Timings, store

_MANY = 200  # granules that need nothing of each other
_CHAIN = 50  # granules that need the one before
_BYTES = 1 << 25
_REPEATS = 3


def measure_cluster() -> Timings:
    """Measure granules, hops and bytes with two worker processes (some seconds), and store them.

    What a real network takes for a byte may be more: these workers are on one machine.
    """
    with local_cluster(1, workers=2, processes=True, dashboard=False) as client:
        return store(Timings(constants=_constants(client)))


def _constants(client: Client) -> dict[str, float]:
    workers = sorted(present_workers(client))
    _run(client, workers, [0, 1] * _CHAIN)  # connections, imports
    before = _cpu_seconds(client)
    _run(client, workers, [0, 1] * (_MANY // 2))
    granule = (_cpu_seconds(client) - before) / _MANY
    hop = _run(client, workers, [0] * _CHAIN, chain=True) / _CHAIN
    there_and_back = [0, 1] * 4
    hops = [_run(client, workers, there_and_back, chain=True) for _ in range(_REPEATS)]
    moves = [
        _run(client, workers, there_and_back, chain=True, nbytes=_BYTES) for _ in range(_REPEATS)
    ]
    moving = statistics.median(moves) - statistics.median(hops)
    return {
        "granule_seconds": granule,
        "hop_seconds": hop,
        "bytes_per_second": (len(there_and_back) - 1) * _BYTES / max(moving, 1e-6),
    }


def _run(
    client: Client,
    workers: Sequence[str],
    slots: Sequence[int],
    *,
    chain: bool = False,
    nbytes: int = 0,
) -> float:
    """Seconds until a granule on each of `slots` is done; in a `chain` one needs the other."""
    name = uuid.uuid4().hex
    keys: list[Key] = [("probe", name, i) for i in range(len(slots))]
    granules = [
        Granule(key, "probe", (keys[i - 1],) if chain and i else (), (nbytes,), slot)
        for i, (key, slot) in enumerate(zip(keys, slots, strict=True))
    ]
    begin = time.perf_counter()
    futures = dask_graph.submit(client, granules, {"probe": _probe}, workers, keys)
    wait(list(futures.values()))
    return time.perf_counter() - begin


def _probe(*given: Any) -> np.ndarray:
    """What the granule before brought, or else so many bytes."""
    *before, nbytes = given
    return before[0] if before else np.ones(nbytes, np.uint8)


def _cpu_seconds(client: Client) -> float:
    """Of this process, where the scheduler is, and of the workers."""
    return time.process_time() + sum(client.run(time.process_time).values())
