"""What users do to a folder of jobs: enter one, list them, wish something, read the log and files.

Functions of the folder's location, for `Access.run`. All raise JobsError in one line.
"""

import secrets
import time
from dataclasses import dataclass

from znn_dask.jobs.checkpoints import best_of, job_checkpoints
from znn_dask.jobs.folder import Folder, JobsError, open_folder
from znn_dask.jobs.log import Position, read_log
from znn_dask.jobs.records import (
    DESCRIPTION,
    Description,
    History,
    Reader,
    Request,
    Wish,
    encode,
    record_name,
)
from znn_dask.jobs.state import is_over, sentence, state_of


def enter(location: str, description: Description) -> str:
    """Make the folder of a new job; its id."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(description.time))
    job = f"{stamp}-{secrets.token_hex(2)}"
    try:
        made = open_folder(location).create(f"{job}/{DESCRIPTION}", encode(description))
    except OSError as error:
        raise JobsError(f"{location}: cannot be written: {error.strerror or error}") from error
    if not made:
        raise JobsError(f"{location}/{job} exists already: submit again")
    return job


def find(location: str, name: str) -> str:
    """The id of the one job that `name` begins or ends."""
    jobs = open_folder(location).names()
    if name in jobs:
        return name
    found = [job for job in jobs if job.startswith(name) or job.endswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise JobsError(f"{name!r} may be any of {', '.join(found)}: give more of it")
    known = f"there are {', '.join(jobs[-3:])}" if jobs else "there are none"
    raise JobsError(f"no job {name!r} in {location}: {known}")


def history(location: str, job: str) -> History:
    """All that is known of a job."""
    found = Reader(open_folder(location), job).history()
    if found is None:
        raise JobsError(f"no job {job!r} in {location}")
    return found


def histories(location: str) -> list[History]:
    """All jobs, in the order of their submission."""
    folder = open_folder(location)
    found = (Reader(folder, job).history() for job in folder.names())
    present = [history for history in found if history is not None]
    return sorted(present, key=lambda history: (history.description.time, history.id))


def wish(location: str, job: str, what: Wish) -> None:
    """Record that a job should be cancelled, or go on."""
    known = history(location, job)
    state = state_of(known)
    if what == "cancel" and is_over(known):
        raise JobsError(f"job {job} is over: it {sentence(known)}")
    if what == "resume" and state not in ("failed", "cancelled", "cancelling"):
        raise JobsError(f"job {job} need not be resumed: it {sentence(known)}")
    folder = _folder(location, job)
    number = len(known.requests) + 1
    while True:
        request = Request(number, what, time.time(), secrets.token_hex(8))
        try:
            if folder.create(record_name(request), encode(request)):
                return
        except OSError as error:
            raise JobsError(f"{location}: cannot be written: {error.strerror or error}") from error
        number += 1


def log_after(location: str, job: str, position: Position) -> tuple[str, Position]:
    """What was added to a job's log since `position`, and the position after it."""
    return read_log(_folder(location, job), position)


@dataclass(frozen=True)
class Checkpoints:
    """The newest and the best checkpoint of a job, as locations; None where there is none."""

    latest: str | None
    best: str | None


def checkpoints(location: str, job: str) -> Checkpoints:
    """Where the checkpoints of a job are."""
    line = job_checkpoints(_folder(location, job).location, history(location, job).claims)
    best = best_of(line)
    return Checkpoints(
        latest=str(line[-1].info.path) if line else None,
        best=str(best.info.path) if best is not None else None,
    )


def _folder(location: str, job: str) -> Folder:
    return open_folder(f"{location}/{job}")
