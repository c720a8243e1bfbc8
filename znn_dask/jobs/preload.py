"""For schedulers: `dask scheduler --preload znn_dask.jobs.preload` keeps the jobs in a folder.

The folder stands in Dask's configuration as `znn.jobs.folder`, or in the environment as
`DASK_ZNN__JOBS__FOLDER`; without one, the folders that `znn-dask submit` names are watched.
"""

from distributed import Scheduler

from znn_dask.jobs.keeper import NAME, configured


async def dask_setup(scheduler: Scheduler) -> None:
    """Called by Dask when the scheduler listens."""
    await scheduler.register_scheduler_plugin(configured(), name=NAME, idempotent=True)
