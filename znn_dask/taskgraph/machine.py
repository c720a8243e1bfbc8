"""What a machine and its network take for the things around the arithmetic.

The planner and the projections to clusters that we do not have count with these.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Constants of one kind of machine.

    Attributes
    ----------
    job_seconds
        What the engine spends on one typed task, besides its arithmetic.
    granule_seconds
        CPU time of one Dask task on scheduler and worker together.
    hop_seconds
        From the end of one Dask task to the start of another that waited for it.
    bytes_per_second
        Between two workers.
    latency_seconds
        One way between two workers, besides the hop.
    """

    job_seconds: float = 2e-5
    granule_seconds: float = 1e-3
    hop_seconds: float = 6e-3
    bytes_per_second: float = 4e8
    latency_seconds: float = 1e-4


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Name of the processor, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or os.uname().machine
