"""What a machine and its network take for the things around the arithmetic.

The planner and the projections to clusters that we do not have count with these.
"""

from dataclasses import dataclass


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
