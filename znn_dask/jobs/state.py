"""What the records of a job mean. Pure: no clock, no files."""

from typing import Literal

from znn_dask.jobs.records import Claim, End, History, Outcome

State = Literal["waiting", "running", "cancelling", "completed", "failed", "cancelled"]

_OVER: tuple[Outcome, ...] = ("completed", "failed", "cancelled")
_PATIENCE = 5  # interrupted attempts in a row that brought nothing
_LONGEST_PAUSE = 60.0  # seconds


def state_of(history: History) -> State:
    """What a job does, as far as its folder tells: a driver may have died since."""
    end = history.end
    wish = _wish(history)
    if end is not None and end.outcome in _OVER:
        return "waiting" if wish == "resume" and end.outcome != "completed" else _over(end)
    if wish == "cancel":
        return "cancelling"
    return "running" if history.claims and end is None else "waiting"


def is_over(history: History) -> bool:
    """Whether nothing more will happen, unless somebody wishes so."""
    return state_of(history) in _OVER


def cancel_wished(history: History) -> bool:
    """Whether the job should end where it is."""
    return state_of(history) == "cancelling"


def steps_done(history: History) -> int:
    """Updates or blocks that are done, as the last driver said."""
    known = [history.claims[-1].step] if history.claims else [0]
    if history.progress is not None:
        known.append(history.progress.step)
    if history.end is not None:
        return history.end.step
    return max(known)


def has_begun(history: History) -> bool:
    """Whether any attempt at a prediction wrote its plan."""
    told = history.progress is not None and history.progress.begun
    return told or (bool(history.claims) and history.claims[-1].begun)


def pause_before(history: History) -> float:
    """Seconds to wait before the next attempt: none where the last brought the job on.

    A job whose attempts all die at one place is tried for ever, but ever more seldom.
    """
    stuck = _stuck(history)
    return 0.0 if stuck < 2 else min(_LONGEST_PAUSE, 2.0 ** (stuck - 2))


def out_of_patience(history: History, claim: Claim) -> bool:
    """Whether an attempt that was interrupted now is one of many that brought nothing."""
    before = [c for c in history.claims if c.attempt < claim.attempt][1 - _PATIENCE :]
    alike = [
        c
        for c in before
        if c.step == claim.step
        and c.attempt in history.ends
        and history.ends[c.attempt].outcome == "interrupted"
    ]
    return len(alike) == _PATIENCE - 1


def sentence(history: History) -> str:
    """What became of it, as a sentence goes on: "was cancelled: after update 40"."""
    state = state_of(history)
    said = {"completed": "has completed", "failed": "has failed", "cancelled": "was cancelled"}
    reason = last_words(history)
    return f"{said.get(state, f'is {state}')}{f': {reason}' if reason else ''}"


def last_words(history: History) -> str:
    """Why it is in this state, where that is not plain."""
    return history.end.reason if history.end is not None else ""


def _wish(history: History) -> str | None:
    """The last wish that no attempt has answered."""
    seen = history.end.seen if history.end is not None else 0
    open_ = [request.wish for request in history.requests if request.number > seen]
    return open_[-1] if open_ else None


def _over(end: End) -> State:
    outcome = end.outcome
    assert outcome != "interrupted"
    return outcome


def _stuck(history: History) -> int:
    """How many of the last attempts began at the step of the last one."""
    count = 0
    for claim in reversed(history.claims):
        if claim.step != history.claims[-1].step:
            break
        count += 1
    return count
