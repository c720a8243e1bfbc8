"""Which jobs get a driver. Pure.

First come, first served: at most so many jobs at once, in the order of their submission. A job that
lost its driver keeps its place, since it came before those that wait; also where its driver is
another scheduler's, and may live.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence

from znn_dask.jobs.records import History

SILENT_SECONDS = 10.0
"""A driver that another scheduler started is dead when it gave no sign of life for so long."""

Named = tuple[str, History]
"""The folder of a job, and what is known of it."""


def without_driver(
    jobs: Sequence[Named],
    driven: Collection[tuple[str, str]],
    dead: Mapping[tuple[str, str], int],
    silent: Collection[tuple[str, str]],
) -> list[Named]:
    """The unfinished jobs that no driver is at, in the order of their submission.

    Parameters
    ----------
    jobs
        All that are not over.
    driven
        (folder, id) of those that have a driver of ours.
    dead
        (folder, id) -> the last attempt that we know to be dead.
    silent
        Jobs whose last driver gave no sign of life for long.
    """
    found = []
    for folder, history in jobs:
        key = folder, history.id
        over = not history.claims or history.end is not None
        if key not in driven and (over or history.attempt <= dead.get(key, 0) or key in silent):
            found.append((folder, history))
    return sorted(found, key=lambda job: (job[1].description.time, job[1].id))


def under_way(jobs: Sequence[Named], free: Collection[Named]) -> list[Named]:
    """The unfinished jobs that have a driver, as far as we know, whoever started it: those that
    began, and are not among the `free` ones."""
    return [job for job in jobs if job[1].claims and job[1].end is None and job not in free]


class Silence:
    """For how long which drivers were silent, by our own clock: those of hosts may differ."""

    def __init__(self) -> None:
        self._heard: dict[Hashable, tuple[tuple[int, int], float]] = {}

    def silent(self, jobs: Sequence[Named], now: float) -> set[tuple[str, str]]:
        """(folder, id) of jobs whose drivers gave no sign for `SILENT_SECONDS`; `now` grows."""
        found = set()
        for folder, history in jobs:
            key = folder, history.id
            sign = history.attempt, history.progress.beat if history.progress is not None else 0
            known, since = self._heard.get(key, (None, now))
            if known != sign:
                since = now
            self._heard[key] = sign, since
            if now - since >= SILENT_SECONDS:
                found.add(key)
        return found
