"""What is in a job's folder.

::

    20260301-101500-3f2a/
        job.json                   what to do; written once
        records/
            request-000001.json    a user's wish: cancel or resume
            claim-000001.json      an attempt begins; whoever creates it first is the only driver
            end-000001.json        how that attempt ended
        progress/000001.json       how far an attempt is; replaced every few seconds
        log/000001-000001.txt      lines of an attempt, in pieces
        checkpoints/000001/        checkpoints of an attempt, and of no other

Records are never changed, so each is read once.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar

from znn_dask.jobs.folder import Folder

Kind = Literal["training", "prediction"]
Wish = Literal["cancel", "resume"]
Outcome = Literal["completed", "failed", "cancelled", "interrupted"]

DESCRIPTION = "job.json"
RECORDS = "records"
_NAME = re.compile(r"(request|claim|end)-(\d{6})\.json")


@dataclass(frozen=True)
class Description:
    """What to do. `time`: of submission, seconds since 1970. `request`: see `training.py` and
    `prediction.py` of this room."""

    kind: Kind
    title: str
    time: float
    request: dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A user's wish."""

    number: int
    wish: Wish
    time: float
    token: str


@dataclass(frozen=True)
class Claim:
    """An attempt begins: its driver alone may write from now on.

    step: what was done before, in updates or blocks.
    origin: (attempt, name) of the checkpoint from which it goes on; of predictions, and where
        there is none, None.
    begun: whether an earlier attempt at a prediction wrote its plan.
    """

    attempt: int
    worker: str
    time: float
    step: int
    origin: tuple[int, str] | None
    begun: bool
    token: str


@dataclass(frozen=True)
class End:
    """How an attempt ended.

    seen: the last request that was known by then.
    """

    attempt: int
    outcome: Outcome
    reason: str
    time: float
    step: int
    seen: int
    token: str


@dataclass(frozen=True)
class Progress:
    """How far an attempt is.

    beat: grows with every writing.
    step, last: updates or blocks done, and in all; `last` is 0 until the work began.
    rate: of this attempt, per second; loss, validation: the last ones, where there are any.
    voxels: of an update's output.
    begun: whether a prediction wrote its plan.
    """

    attempt: int
    beat: int = 0
    time: float = 0.0
    step: int = 0
    last: int = 0
    rate: float | None = None
    loss: float | None = None
    validation: float | None = None
    voxels: int = 0
    begun: bool = False


@dataclass(frozen=True)
class History:
    """All that is known of a job, in order."""

    id: str
    description: Description
    requests: tuple[Request, ...] = ()
    claims: tuple[Claim, ...] = ()
    ends: Mapping[int, End] = field(default_factory=dict)
    progress: Progress | None = None

    @property
    def attempt(self) -> int:
        """Number of the last attempt, 0 before the first."""
        return self.claims[-1].attempt if self.claims else 0

    @property
    def end(self) -> End | None:
        """How the last attempt ended, if it has."""
        return self.ends.get(self.attempt)


Record = TypeVar("Record", Description, Request, Claim, End, Progress)


def encode(record: Any) -> bytes:
    """A record as JSON."""
    return json.dumps(asdict(record), indent=1).encode()


def decode(kind: type[Record], content: bytes) -> Record:
    """Inverse of `encode`."""
    values = json.loads(content)
    if values.get("origin"):
        values["origin"] = tuple(values["origin"])
    return kind(**values)


def record_name(record: Request | Claim | End) -> str:
    """Where a record is kept in its job's folder."""
    number = record.number if isinstance(record, Request) else record.attempt
    return f"{RECORDS}/{type(record).__name__.lower()}-{number:06d}.json"


def progress_name(attempt: int) -> str:
    """Where the progress of an attempt is kept."""
    return f"progress/{attempt:06d}.json"


def checkpoints_name(attempt: int) -> str:
    """The folder of an attempt's checkpoints."""
    return f"checkpoints/{attempt:06d}"


def newest(names: list[str], kind: str) -> int:
    """The highest number among the records of a kind ("claim", "request"), 0 without one."""
    numbers = (int(m[2]) for m in map(_NAME.fullmatch, names) if m and m[1] == kind)
    return max(numbers, default=0)


class Reader:
    """Reads the history of one job again and again; what never changes only once."""

    def __init__(self, folder: Folder, job: str) -> None:
        self.job = job
        self._folder = folder
        self._description: Description | None = None
        self._records: dict[str, Any] = {}

    def history(self) -> History | None:
        """The job as it is now; None where there is no such job."""
        if self._description is None:
            content = self._folder.read(f"{self.job}/{DESCRIPTION}")
            if content is None:
                return None
            self._description = decode(Description, content)
        kinds: dict[str, Any] = {"request": Request, "claim": Claim, "end": End}
        for name in self._folder.names(f"{self.job}/{RECORDS}"):
            match = _NAME.fullmatch(name)
            if match and name not in self._records:
                content = self._folder.read(f"{self.job}/{RECORDS}/{name}")
                if content is not None:
                    self._records[name] = decode(kinds[match[1]], content)
        found = [self._records[name] for name in sorted(self._records)]
        claims = tuple(record for record in found if isinstance(record, Claim))
        return History(
            id=self.job,
            description=self._description,
            requests=tuple(record for record in found if isinstance(record, Request)),
            claims=claims,
            ends={record.attempt: record for record in found if isinstance(record, End)},
            progress=self._progress(claims[-1].attempt) if claims else None,
        )

    def _progress(self, attempt: int) -> Progress | None:
        content = self._folder.read(f"{self.job}/{progress_name(attempt)}")
        return None if content is None else decode(Progress, content)
