"""Preload of worker processes that `local_cluster` starts: Ctrl-C is not meant for them.

A terminal sends it, and Jupyter's stop button too, to the whole process group. Whoever waits for
the workers takes it, and needs them to end cleanly.
"""

import signal

from distributed import Worker


def dask_setup(worker: Worker) -> None:
    """Called by Dask in the main thread of a worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
