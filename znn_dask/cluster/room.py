"""Whether a plan has room in the memory of a cluster's workers."""

from dataclasses import replace

from distributed import Client

from znn_dask.cluster.members import present_workers
from znn_dask.taskgraph.arithmetic import PlanError
from znn_dask.taskgraph.fitting import fit
from znn_dask.taskgraph.plan import Plan

_USABLE = 0.7  # Dask pauses a worker at 0.8 of its limit, and the process itself takes some


def fit_workers(plan: Plan, client: Client, batch: int = 1) -> Plan:
    """The plan, or one that makes spectra again, so that it fits the smallest worker.

    `batch` patches are spread over the workers. One without a memory limit has room for anything.

    Raises
    ------
    PlanError
        If it cannot be made to fit; the message names the worker.
    """
    present = present_workers(client)
    limits = {
        address: worker["memory_limit"]
        for address, worker in present.items()
        if worker["memory_limit"]
    }
    if not limits:
        return plan
    patches = -(-batch // len(present))
    if patches != plan.patches:
        plan = replace(plan, patches=patches)
    smallest = min(limits, key=lambda address: limits[address])
    try:
        return fit(plan, int(_USABLE * limits[smallest]))
    except PlanError as error:
        raise PlanError(f"worker {smallest} is too small: {error}") from error
