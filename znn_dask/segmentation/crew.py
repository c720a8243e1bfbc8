"""Who computes: threads of this process or workers of a Dask cluster, and their memory."""

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask.utils import parse_bytes
from distributed.system import MEMORY_LIMIT

from znn_dask.cluster.members import present_workers
from znn_dask.segmentation.maps import SegmentationError
from znn_dask.segmentation.need import mib

if TYPE_CHECKING:
    from distributed import Client

USABLE = 0.7
"""What blocks may take of a process's memory; the rest is interpreter and libraries."""


@dataclass(frozen=True)
class Crew:
    """client: None for this process. processes: how many; threads: the most that one of them has;
    memory: bytes that blocks may take in each. here: bytes that this process may take."""

    client: Any
    processes: int
    threads: int
    memory: int
    here: int

    def hold(self, needed: int, what: str) -> None:
        """Raise SegmentationError when this process cannot hold so many bytes."""
        if needed > self.here:
            raise SegmentationError(
                f"{what} needs about {mib(needed)} in this process, which may use "
                f"{mib(self.here)}; the blocks are kept: run again with more memory, or a "
                "segmentation of smaller regions"
            )

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def assemble(client: "Client | None", threads: int | None, limit: int | str | None) -> Crew:
    """The crew of a segmentation; raises SegmentationError for a limit that is no size, or a
    cluster without workers."""
    here = int(USABLE * MEMORY_LIMIT)
    memory = None
    if limit is not None:
        try:
            memory = int(parse_bytes(limit))
        except ValueError as error:
            raise SegmentationError(
                f"memory_limit {limit!r} is no amount of memory; write it as 4GB"
            ) from error
    if client is None:
        cores = threads or len(os.sched_getaffinity(0))
        return Crew(None, 1, cores, memory or here, here)
    workers = list(present_workers(client).values())
    if not workers:
        raise SegmentationError("the cluster has no workers; start some with `dask worker`")
    least = min(int(USABLE * w["memory_limit"]) or sys.maxsize for w in workers)
    most = max(w["nthreads"] for w in workers)
    return Crew(client, len(workers), most, memory or least, here)
