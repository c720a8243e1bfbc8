"""What the engine's threads did: the last jobs one by one, and all of them in sums."""

from collections import defaultdict
from dataclasses import dataclass, fields
from typing import NamedTuple

from znn_dask.taskgraph.census import TALLIES


class Span(NamedTuple):
    """One job on a timeline; `start` and `end` in seconds of its clock.

    `name` is `(kind, layer, block)`; `forced` tells a type-2 job that a type-1 job waited for;
    `step` is the training step that it belongs to.
    """

    thread: int
    start: float
    end: float
    name: tuple[str, str, int]
    type: int
    forced: bool
    step: int = 0


class Tally:
    """Seconds of the jobs of one training or prediction, by kind and layer.

    Attributes
    ----------
    name
        Of the training or prediction.
    seconds
        (kind, layer) -> seconds of all threads; the engine adds to it, one thread at a time.
    """

    __slots__ = ("__weakref__", "name", "seconds")

    def __init__(self, name: str) -> None:
        self.name = name
        self.seconds: defaultdict[tuple[str, ...], float] = defaultdict(float)
        TALLIES.add(self)

    def count(self, span: Span) -> None:
        """Add one job."""
        self.seconds[span.name[:2]] += span.end - span.start


@dataclass(slots=True)
class Totals:
    """Seconds that threads spent, since they began.

    Attributes
    ----------
    type1, type2, forced
        In jobs of type 1, of type 2 in a gap, and of type 2 that a type-1 job waited for.
    idle
        Waiting for work.
    jobs
        Jobs run.
    """

    type1: float = 0.0
    type2: float = 0.0
    forced: float = 0.0
    idle: float = 0.0
    jobs: int = 0

    @property
    def busy(self) -> float:
        """Seconds in jobs."""
        return self.type1 + self.type2 + self.forced

    def count(self, span: Span) -> None:
        """Add one job."""
        self.jobs += 1
        seconds = span.end - span.start
        if span.forced:
            self.forced += seconds
        elif span.type == 1:
            self.type1 += seconds
        else:
            self.type2 += seconds

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "Totals") -> "Totals":
        return Totals(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))
