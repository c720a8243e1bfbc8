"""One attempt at a job: its claim, its signs of life, and its fence.

Of all that ever tried, only the attempt that was claimed last may write what counts. Attempts have
numbers, and a number is claimed by creating its record, which succeeds for one process alone. So a
driver that was only taken for dead finds, before each checkpoint, that a later attempt was claimed,
and ends; and what it wrote in between lies in a folder that nobody reads.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

from znn_dask.jobs.checkpoints import job_checkpoints, origin_of
from znn_dask.jobs.folder import Folder, open_folder
from znn_dask.jobs.log import LogWriter
from znn_dask.jobs.records import (
    RECORDS,
    Claim,
    End,
    History,
    Outcome,
    Progress,
    Reader,
    encode,
    newest,
    progress_name,
    record_name,
)
from znn_dask.jobs.state import cancel_wished, has_begun, is_over, steps_done

BEAT_SECONDS = 2.0

_log = logging.getLogger(__name__)


class SupersededError(RuntimeError):
    """Another attempt was claimed: this one must not write any more."""


class Attempt:
    """What a driver writes; made by `claim`.

    Attributes
    ----------
    claim
        With which it began.
    stopping
        Whether the driver should end, because a user wishes so or because it was superseded.
    on_stop
        Called every few seconds while it should.
    """

    def __init__(self, reader: Reader, folder: Folder, history: History, claim: Claim) -> None:
        self.claim = claim
        self.history = history
        self.stopping = False
        self.on_stop: Callable[[], None] | None = None
        self._reader = reader
        self._folder = folder
        self._progress = Progress(claim.attempt, step=claim.step, begun=claim.begun)
        self._log = LogWriter(folder, claim.attempt)
        self._lock = threading.Lock()
        self._beating = threading.Lock()
        self._ended = threading.Event()

    @classmethod
    def begin(cls, location: str, job: str, number: int, worker: str) -> Self | None:
        """Claim attempt `number`; None where it is not the next one, or the job is over."""
        reader = Reader(open_folder(location), job)
        history = reader.history()
        if history is None:
            raise FileNotFoundError(
                f"worker {worker} does not see the job {job} in {location}: give a jobs folder "
                "that the scheduler and all workers share"
            )
        if history.attempt != number - 1 or is_over(history):
            return None
        folder = open_folder(f"{location}/{job}")
        line = job_checkpoints(folder.location, history.claims)
        training = history.description.kind == "training"
        done = (line[-1].info.step if line else 0) if training else steps_done(history)
        claim = Claim(
            attempt=number,
            worker=worker,
            time=time.time(),
            step=done,
            origin=origin_of(line),
            begun=has_begun(history),
            token=secrets.token_hex(8),
        )
        if not folder.create(record_name(claim), encode(claim)):
            return None
        history = replace(history, claims=(*history.claims, claim), progress=None)
        return cls(reader, folder, history, claim)

    @property
    def location(self) -> str:
        """Location of the job's folder."""
        return self._folder.location

    @property
    def working(self) -> bool:
        """Whether the work itself began, after all that goes before it."""
        return self._progress.last > 0

    def check(self) -> None:
        """Raise SupersededError where a later attempt was claimed."""
        later = newest(self._folder.names(RECORDS), "claim")
        if later > self.claim.attempt:
            raise SupersededError(f"attempt {later} took the place of {self.claim.attempt}")

    def say(self, text: str) -> None:
        """Add lines to the job's log."""
        self._log.add(text)

    def report(self, **values: Any) -> None:
        """Change what the next sign of life tells: fields of `Progress`."""
        with self._lock:
            self._progress = replace(self._progress, **values)

    def beat(self) -> None:
        """Give a sign of life, and look for wishes and for later attempts."""
        with self._beating:
            self._beat()

    def _beat(self) -> None:
        with self._lock:
            progress = replace(self._progress, beat=self._progress.beat + 1, time=time.time())
            self._progress = progress
        self._folder.write(progress_name(self.claim.attempt), encode(progress))
        self._log.flush()
        history = self._reader.history()
        if history is None:
            self.stopping = True  # somebody removed the job
        else:
            self.history = history
            self.stopping = history.attempt > self.claim.attempt or cancel_wished(history)

    def keep_beating(self, alive: Callable[[], bool]) -> None:
        """Beat until `end`, from a thread of its own, while the worker is `alive`."""

        def run() -> None:
            while alive() and not self._ended.is_set():
                try:
                    self.beat()
                except Exception as error:  # a store that does not answer now may do so later
                    _log.warning("job %s: %s", self.location, error)
                if self.stopping and self.on_stop is not None:
                    self.on_stop()
                self._ended.wait(BEAT_SECONDS)

        threading.Thread(target=run, name="znn-job-beat", daemon=True).start()

    def end(self, outcome: Outcome, reason: str = "") -> None:
        """Record how it ended; raises SupersededError where that is no longer ours to say."""
        self._ended.set()
        self.say(f"{outcome}: {reason}" if reason else outcome)
        self.beat()
        self.check()
        if outcome == "cancelled" and not cancel_wished(self.history):
            outcome = "interrupted"  # somebody wishes since that it goes on
        requests = self.history.requests
        end = End(
            attempt=self.claim.attempt,
            outcome=outcome,
            reason=reason,
            time=time.time(),
            step=max(self._progress.step, self.claim.step),
            seen=requests[-1].number if requests else 0,
            token=secrets.token_hex(8),
        )
        self._folder.create(record_name(end), encode(end))

    def leave(self) -> None:
        """Fall silent without a word, as a driver that died."""
        self._ended.set()


def conclude(
    location: str, job: str, number: int, where: str, outcome: Outcome, reason: str
) -> None:
    """End a job that has no driver, as attempt `number`; nothing where that is taken."""
    attempt = Attempt.begin(location, job, number, where)
    if attempt is not None:
        attempt.end(outcome, reason)
