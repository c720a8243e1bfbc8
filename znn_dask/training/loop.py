"""The training loop: graphs of the next steps are on the cluster before the present ones end.

submit ──> granules of the next steps ──> cluster         (a few submissions ahead)
collect <── loss records, validations, snapshots <──┘     (in order of the steps)
"""

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from distributed import Future

from znn_dask.cluster.session import LOST, Session, losses
from znn_dask.taskgraph.losses import LossRecord
from znn_dask.taskgraph.state import Parameters, UpdateRule

_AHEAD = 3  # submissions under way at once: the cluster never waits for the driver
# Dask keeps 6 kB per task and step until its lineage is cut; and what is lost with a worker is made
# again from the last snapshot, of which there is one at every cut.
_CUT_SECONDS = 60.0
_LOOK_SECONDS = 5.0  # between looks at who is in the cluster


@dataclass(frozen=True)
class Cadence:
    """How often what happens, in updates; 0 is never."""

    checkpoint_every: int
    validate_every: int
    validation_patches: int

    def checkpoints_at(self, step: int) -> bool:
        """Every validation is a checkpoint too, so that the best one can be kept."""
        return _divides(self.checkpoint_every, step) or self.validates_at(step)

    def validates_at(self, step: int) -> bool:
        """Whether there is a validation after `step` updates."""
        return self.validation_patches > 0 and _divides(self.validate_every, step)

    def next_stop(self, step: int) -> int:
        """The first update count after `step` at which something happens."""
        periods = [self.checkpoint_every]
        if self.validation_patches > 0:
            periods.append(self.validate_every)
        stops = [(step // period + 1) * period for period in periods if period]
        return min(stops, default=step + (1 << 30))


@dataclass(frozen=True)
class Outcome:
    """What some updates brought: `step` updates are done.

    `parameters` and `momenta` (ZNN's layout) come with a snapshot: where a checkpoint is due, and
    from time to time besides.
    """

    step: int
    records: list[LossRecord]
    validation: LossRecord | None
    parameters: Parameters | None
    momenta: Parameters | None
    checkpoint: bool


@dataclass
class _Submission:
    step: int
    reports: list[Future]
    validation: Future | None = None
    snapshot: Future | None = None


class Loop:
    """Runs updates on a session and hands out their outcomes in order.

    Parameters
    ----------
    session
        Started at the step from which `run` goes on.
    cadence
        When to validate and to snapshot.
    rule
        Step -> its update rule.
    steps
        Updates per submission.
    """

    def __init__(
        self, session: Session, cadence: Cadence, rule: Callable[[int], UpdateRule], steps: int
    ) -> None:
        self._session = session
        self._cadence = cadence
        self._rule = rule
        self._steps = max(1, steps)
        self._stopping = False

    def stop(self) -> None:
        """Finish what is under way, take a last snapshot, and end."""
        self._stopping = True

    def run(self, first: int, last: int) -> Iterator[Outcome]:
        """Outcomes from step `first` until `last` updates are done, or `stop` is called.

        A worker that is lost while stopping ends it too, at the last outcome: whoever asked for the
        end does not want the lost updates made again first.
        """
        try:
            yield from self._run(first, last)
        except LOST:
            if not self._stopping:
                raise

    def _run(self, first: int, last: int) -> Iterator[Outcome]:
        under_way: deque[_Submission] = deque()
        submitted = saved = first
        last_cut = last_look = time.monotonic()
        cut_due = False
        while submitted < last or under_way:
            if self._stopping and submitted < last:
                last = submitted
                if not under_way and saved < submitted:
                    under_way.append(_Submission(submitted, []))
                if under_way and under_way[-1].snapshot is None:
                    under_way[-1].snapshot = self._session.snapshot(submitted)
                continue
            now = time.monotonic()
            if now - last_look > _LOOK_SECONDS:
                last_look = now
                cut_due = cut_due or self._session.outdated()
            cut_due = cut_due or now - last_cut > _CUT_SECONDS
            while submitted < last and len(under_way) < _AHEAD and not cut_due:
                under_way.append(self._submit(submitted, last))
                submitted = under_way[-1].step
            if not under_way:
                parameters, momenta = self._session.result(self._session.snapshot(submitted))
                yield Outcome(submitted, [], None, parameters, momenta, checkpoint=False)
                self._renew(submitted, parameters, momenta)
                last_cut, cut_due = time.monotonic(), False
                continue
            outcome = self._collect(under_way.popleft())
            if outcome.checkpoint:
                saved = outcome.step
            yield outcome

    def _renew(self, step: int, parameters: Parameters, momenta: Parameters) -> None:
        """Begin a new lineage, on other workers where some came or left."""
        if self._session.outdated():
            self._session.start(parameters, momenta, step)
        else:
            self._session.cut(step)

    def _submit(self, first: int, last: int) -> _Submission:
        step = min(first + self._steps, last, self._cadence.next_stop(first))
        reports = self._session.train(first, [self._rule(s) for s in range(first, step)])
        submission = _Submission(step, reports)
        if self._cadence.validates_at(step):
            patches = self._cadence.validation_patches
            submission.validation = self._session.validate(step, patches)
        if self._cadence.checkpoints_at(step) or step == last:
            submission.snapshot = self._session.snapshot(step)
        return submission

    def _collect(self, submission: _Submission) -> Outcome:
        result = self._session.result
        records = losses(result(report) for report in submission.reports)
        validation, snapshot = submission.validation, submission.snapshot
        parameters, momenta = result(snapshot) if snapshot is not None else (None, None)
        found = None if validation is None else result(validation)
        due = snapshot is not None
        return Outcome(submission.step, records, found, parameters, momenta, checkpoint=due)


@contextmanager
def stopping_on_signals(loop: Loop) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops the loop cleanly; a second Ctrl-C interrupts it.

    After Ctrl-C the program goes on, as in a notebook; after SIGTERM it exits, as a job must.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminated = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal terminated
        terminated = number == signal.SIGTERM
        loop.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if terminated:
        raise SystemExit(128 + signal.SIGTERM)


def _divides(period: int, step: int) -> bool:
    return period > 0 and step % period == 0
