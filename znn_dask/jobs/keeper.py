"""The keeper: a plugin of the scheduler that sees to it that every job has a driver.

It remembers nothing that is not in the jobs' folders but which folders it watches, and which of its
own drivers are alive. A driver whose worker leaves the cluster is followed by another, under a new
key: Dask gives a task up when four workers died of it, and a job must not end like that.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, Future, Scheduler, SchedulerPlugin
from distributed.core import Status

from znn_dask.jobs.attempt import conclude
from znn_dask.jobs.driver import NOT_NEEDED, drive
from znn_dask.jobs.policy import Named, Silence, under_way, without_driver
from znn_dask.jobs.records import History
from znn_dask.jobs.state import cancel_wished, pause_before
from znn_dask.jobs.watch import Watch

NAME = "znn-jobs"
_LOOK_SECONDS = 2.0
_PATIENCE = 5  # drivers in a row that could not even begin
_PRIORITY = 1_000_000  # drivers do little, and much waits for them

_log = logging.getLogger(__name__)


@dataclass
class _Driver:
    worker: str
    number: int
    future: Future
    lost: bool = False


@dataclass
class _Failure:
    """A driver that could not even begin."""

    worker: str
    text: str


class Keeper(SchedulerPlugin):
    """Starts and watches the drivers of the jobs in some folders.

    folders: paths or URLs; more may come with `watch`
    at_once: jobs that run at the same time, at most
    """

    name = NAME
    idempotent = True

    def __init__(self, folders: Iterable[str] = (), at_once: int = 1) -> None:
        self._watches = {folder: Watch(folder) for folder in folders}
        self._at_once = at_once
        self._drivers: dict[tuple[str, str], _Driver] = {}
        self._dead: dict[tuple[str, str], int] = {}
        self._failures: dict[tuple[str, str], list[_Failure]] = {}
        self._not_before: dict[tuple[str, str, int, int], float] = {}
        self._silence = Silence()

    @property
    def folders(self) -> list[str]:
        """The folders that it watches, in the order in which they were named."""
        return list(self._watches)

    async def start(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._awake = asyncio.Event()
        self._task = asyncio.create_task(self._keep())

    async def before_close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def watch(self, folder: str) -> None:
        """Look at a folder from now on, and at all jobs in it at once: something changed.

        Raises JobsError for a folder that cannot hold jobs.
        """
        if folder not in self._watches:
            self._watches[folder] = Watch(folder)
        self._watches[folder].look_at_all()
        self._awake.set()

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        self._awake.set()

    def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:
        for driver in self._drivers.values():
            driver.lost = driver.lost or driver.worker == worker
        self._awake.set()

    async def _keep(self) -> None:
        """Look at the jobs again and again, whatever happens."""
        scheduler = self._scheduler
        while True:
            try:
                async with Client(
                    scheduler.address,
                    security=scheduler.security,
                    asynchronous=True,
                    set_as_default=False,
                    name=NAME,
                ) as client:
                    while client.status != "closed":
                        await self._try_round(client)
                        await self._rest()
            except Exception as error:
                _log.exception("jobs: no client of this scheduler: %s", error)
                await self._rest()

    async def _try_round(self, client: Client) -> None:
        """A round; what goes wrong in it must not end the client, who holds the drivers."""
        try:
            await self._round(client)
        except Exception as error:
            _log.exception("jobs: %s", error)

    async def _rest(self) -> None:
        """Wait until something happens, or for some time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._awake.wait(), _LOOK_SECONDS)
        self._awake.clear()

    async def _round(self, client: Client) -> None:
        for key, driver in list(self._drivers.items()):
            if driver.lost or driver.future.done():
                del self._drivers[key]
                await self._part(key, driver)
        jobs: list[Named] = []
        for folder, watch in list(self._watches.items()):
            try:
                found = await asyncio.to_thread(watch.unfinished)
            except OSError as error:  # the storage may answer the next time
                _log.warning("jobs in %s: %s", folder, error)
                continue
            jobs += [(folder, history) for history in found]
        now = time.monotonic()
        silent = self._silence.silent(jobs, now)
        free = without_driver(jobs, self._drivers, self._dead, silent)
        others = {(folder, history.id) for folder, history in under_way(jobs, free)}
        for folder, history in free:
            key = folder, history.id
            failures = self._failures.get(key, [])
            if cancel_wished(history):
                await self._conclude(folder, history, "cancelled", "no driver was at it")
            elif len(failures) >= _PATIENCE:
                await self._conclude(folder, history, "failed", failures[-1].text)
                del self._failures[key]
            elif len(others | self._drivers.keys()) < self._at_once:
                turn = (*key, history.attempt, len(failures))
                pause = max(pause_before(history), float(len(failures)))
                if now >= self._not_before.setdefault(turn, now + pause):
                    self._start(client, folder, history)

    def _start(self, client: Client, folder: str, history: History) -> None:
        failures = self._failures.get((folder, history.id), [])
        worker = self._worker([failure.worker for failure in failures])
        if worker is None:
            return
        number = history.attempt + 1
        future = client.submit(
            drive,
            *(folder, history.id, number),
            key=(f"job:{history.description.kind}", history.id, number, f"{time.time_ns():x}"),
            workers=[worker],
            priority=_PRIORITY,
            pure=False,
        )
        future.add_done_callback(lambda _: self._awake.set())
        self._drivers[folder, history.id] = _Driver(worker, number, future)
        _log.info("job %s: attempt %d on %s", history.id, number, worker)

    def _worker(self, avoid: list[str]) -> str | None:
        """Where the next driver goes: to a worker with the fewest of them, but rather not where it
        could not begin."""
        running = [
            address
            for address, worker in self._scheduler.workers.items()
            if worker.status is Status.running
        ]
        burdens = [driver.worker for driver in self._drivers.values()]
        return min(running, key=lambda w: (avoid.count(w), burdens.count(w)), default=None)

    async def _part(self, key: tuple[str, str], driver: _Driver) -> None:
        """A driver is gone; what it leaves is in the job's folder."""
        if driver.lost:
            await driver.future.cancel(force=True)
        elif driver.future.status == "error":
            error = await driver.future.exception()
            text = " ".join(str(error).split()) or type(error).__name__
            _log.warning("job %s: no driver on %s: %s", key[1], driver.worker, text)
            self._failures.setdefault(key, []).append(_Failure(driver.worker, text))
        elif driver.future.status == "finished" and await driver.future == NOT_NEEDED:
            return  # the attempt of that number is another's
        else:
            self._failures.pop(key, None)
        self._dead[key] = driver.number

    async def _conclude(self, folder: str, history: History, outcome: Any, reason: str) -> None:
        where = self._scheduler.address
        number = history.attempt + 1
        try:
            await asyncio.to_thread(conclude, folder, history.id, number, where, outcome, reason)
        except OSError as error:  # as above
            _log.warning("job %s cannot be ended: %s", history.id, error)


def configured() -> Keeper:
    """The keeper that Dask's configuration asks for (`znn.jobs.folder`, `znn.jobs.at-once`)."""
    folder = dask.config.get("znn.jobs.folder", None)
    return Keeper([folder] if folder else [], int(dask.config.get("znn.jobs.at-once", 1)))
