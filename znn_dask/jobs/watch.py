"""Watching a folder of jobs: read again and again, with little asked of the storage."""

from znn_dask.jobs.folder import open_folder
from znn_dask.jobs.records import History, Reader
from znn_dask.jobs.state import is_over

_LOOK_AT_ALL = 15  # looks between two at jobs that are over: somebody may have resumed one


class Watch:
    """Reads a folder of jobs again and again. Used by one thread at a time."""

    def __init__(self, location: str) -> None:
        self._folder = open_folder(location)
        self._readers: dict[str, Reader] = {}
        self._over: set[str] = set()
        self._looks = 0
        self._all = False

    def look_at_all(self) -> None:
        """Look at jobs that are over, too, the next time."""
        self._all = True

    def unfinished(self) -> list[History]:
        """The jobs that are not over. Raises OSError where the storage does not answer."""
        if self._all or self._looks % _LOOK_AT_ALL == 0:
            self._all = False  # at first: what is asked for meanwhile holds for the next time
            self._over.clear()
        self._looks += 1
        found = []
        for job in self._folder.names():
            if job in self._over:
                continue
            history = self._readers.setdefault(job, Reader(self._folder, job)).history()
            if history is None or is_over(history):
                self._over.add(job)
            else:
                found.append(history)
        return found
