"""The driver of a job: a task on a worker that leaves its thread pool and tells the others what to
do, until the job is over or its worker dies."""

import threading
import traceback
from typing import Any

import dask
from distributed import Client, Worker, get_worker, secede
from distributed.core import Status

from znn_dask.cluster.checks import ClusterError
from znn_dask.cluster.local import SETTINGS
from znn_dask.cluster.session import LOST
from znn_dask.inference.blocks import PredictionError
from znn_dask.jobs.attempt import Attempt, SupersededError
from znn_dask.jobs.prediction import predict
from znn_dask.jobs.records import Outcome
from znn_dask.jobs.state import out_of_patience
from znn_dask.jobs.training import train
from znn_dask.training.checkpoint import CheckpointError

NOT_NEEDED = "not needed"
"""What `drive` says where the attempt is taken, or the job over."""

_WORK = {"training": train, "prediction": predict}
# What may be otherwise the next time: the cluster and the storage, not the work itself. So may a
# block of a prediction that could not be read or written, and whatever an unknown library raises.
_PASSING = (*LOST, ClusterError, CheckpointError, OSError)


def drive(location: str, job: str, number: int) -> str:
    """Dask task: attempt `number` at a job; says how it ended.

    Raises what kept it from beginning (the worker does not see the folder, say).
    """
    worker = get_worker()
    secede()
    answer: list[Any] = []

    def run() -> None:
        try:
            answer.append(_drive(worker, location, job, number))
        except BaseException as error:
            answer.append(error)

    # In a thread of its own, for what a task submits from within goes before all that others
    # submit at the same priority, and older steps no longer before newer ones.
    thread = threading.Thread(target=run, name=f"znn-job-{job}", daemon=True)
    thread.start()
    thread.join()
    if isinstance(answer[0], BaseException):
        raise answer[0]
    return str(answer[0])


def _drive(worker: Worker, location: str, job: str, number: int) -> str:
    attempt = Attempt.begin(location, job, number, worker.address)
    if attempt is None:
        return NOT_NEEDED
    _greet(attempt)
    attempt.keep_beating(lambda: _lives(worker))
    try:
        outcome, reason = _work(attempt, worker)
        attempt.end(outcome, reason)
        return f"{outcome}: {reason}"
    except SupersededError as error:
        return str(error)
    except Exception as error:
        if not _lives(worker):
            return f"its worker closed: {error}"
        outcome, reason = _judged(attempt, error)
        attempt.end(outcome, reason)
        return f"{outcome}: {reason}"
    finally:
        attempt.leave()


def _work(attempt: Attempt, worker: Worker) -> tuple[Outcome, str]:
    # Not the worker's own client: others may close that one, or wait for what it holds.
    with (
        dask.config.set(SETTINGS),
        Client(
            worker.scheduler.address,
            security=worker.security,
            set_as_default=False,
            name=f"znn-job-{attempt.claim.attempt}",
        ) as client,
    ):
        return _WORK[attempt.history.description.kind](attempt, client)


def _greet(attempt: Attempt) -> None:
    """Say in the log who begins, where, and why."""
    claim, history = attempt.claim, attempt.history
    text = f"attempt {claim.attempt} on {claim.worker}"
    if claim.attempt > 1:
        before = history.claims[-2]
        end = history.ends.get(before.attempt)
        why = f"ended ({end.outcome})" if end else f"was lost with its worker {before.worker}"
        text += f": attempt {before.attempt} {why}; going on from step {claim.step:,}"
    attempt.say(text)


def _judged(attempt: Attempt, error: Exception) -> tuple[Outcome, str]:
    """Whether an error ends the job or only this attempt, and what to tell."""
    reason = " ".join(str(error).split()) or type(error).__name__
    passing = isinstance(error, _PASSING) or isinstance(error.__cause__, _PASSING)
    passing = passing or (isinstance(error, PredictionError) and attempt.working)
    known = isinstance(error, ValueError) or _is_ours(error)
    if known and not passing:
        return "failed", reason
    if not known and not isinstance(error, OSError):  # of a library, or a mistake of ours
        attempt.say("".join(traceback.format_exception(error)))
        reason = f"{type(error).__name__}: {reason}"
    if out_of_patience(attempt.history, attempt.claim):
        return "failed", f"{reason} (several attempts in a row came to this)"
    return "interrupted", reason


def _is_ours(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] == "znn_dask"


def _lives(worker: Worker) -> bool:
    return worker.status in (Status.running, Status.paused, Status.closing_gracefully)
