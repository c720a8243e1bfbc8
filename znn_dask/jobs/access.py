"""Where the functions run that read and write a folder of jobs: here, or on the scheduler.

A laptop need not see the folder that the cluster sees, so whoever names a scheduler has the
scheduler do it; whoever names the folder alone can still read, and cancel, without one.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import dask
from distributed import Client, Scheduler

from znn_dask.cluster.checks import ClusterError
from znn_dask.cluster.members import reaching_scheduler
from znn_dask.jobs.folder import JobsError, open_folder
from znn_dask.jobs.keeper import NAME, configured

Result = TypeVar("Result")


class Access(Protocol):
    """A way to a folder of jobs."""

    location: str

    def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What `function(location, *arguments)` returns, run where the folder is seen."""

    def changed(self) -> None:
        """Have the keeper look at the folder at once, where there is one."""


class Here:
    """The folder is seen by this process."""

    def __init__(self, folder: str | Path) -> None:
        self.location = open_folder(absolute(folder)).location

    def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return function(self.location, *arguments)

    def changed(self) -> None:
        return


class OnScheduler:
    """The folder is seen by the scheduler, which gets a keeper if it has none.

    Raises JobsError where neither the caller nor the scheduler names a folder, OSError where the
    scheduler does not answer, ClusterError where it lacks this package.
    """

    def __init__(self, client: Client, folder: str | Path | None = None) -> None:
        self._client = client
        asked = None if folder is None else open_folder(absolute(folder)).location
        self.location = ""
        self.location = self._ask(client.run_on_scheduler, _watched, asked)

    def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        result: Result = self._ask(
            self._client.run_on_scheduler, _in_a_thread, function, self.location, arguments
        )
        return result

    def changed(self) -> None:
        self._ask(self._client.run_on_scheduler, _watched, self.location)

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            with reaching_scheduler(self._client):
                return call(*arguments)
        except ModuleNotFoundError as error:
            raise ClusterError(
                f"the scheduler lacks the package {error.name!r}: install znn-dask there"
            ) from error


def access(client: Client | None, folder: str | Path | None) -> Access:
    """The way to a folder of jobs: through the scheduler of `client`, where one is given.

    `folder` is what Dask's configuration says (`znn.jobs.folder`) when not given.
    """
    folder = folder or dask.config.get("znn.jobs.folder", None)
    if client is not None:
        return OnScheduler(client, folder)
    if folder is None:
        raise JobsError(
            "neither a scheduler nor a folder of jobs is named: give --scheduler or --folder"
        )
    return Here(folder)


def absolute(location: str | Path) -> str:
    """A path that means the same in every working directory; URLs stay."""
    text = str(location)
    return text if "://" in text else str(Path(text).expanduser().absolute())


async def _in_a_thread(
    function: Callable[..., Any], location: str, arguments: tuple[Any, ...]
) -> Any:
    """The scheduler has more to do than to wait for storage."""
    return await asyncio.to_thread(function, location, *arguments)


async def _watched(folder: str | None, dask_scheduler: Scheduler) -> str:
    """Have the keeper look at `folder`; without one, the folder that it watches."""
    await dask_scheduler.register_scheduler_plugin(configured(), name=NAME, idempotent=True)
    keeper = dask_scheduler.plugins[NAME]
    if folder is None:
        if not keeper.folders:
            raise JobsError(
                "the scheduler watches no folder of jobs: give --folder, a path or URL that it and "
                "all workers see"
            )
        folder = keeper.folders[0]
    keeper.watch(folder)
    return folder
