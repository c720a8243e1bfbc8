"""Which of several methods is the fastest, by seconds that were measured in rounds. Pure.

All methods of a contest are timed once in every round, so that whatever else a machine does hits
them alike: only ratios within a round count, and the drift from round to round does not.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

Contender = TypeVar("Contender")

MARGIN = 0.05
"""What a method must win at least, besides the spread of the ratios: less is not worth a change."""
FEWEST_ROUNDS = 5
"""Rounds without which there is no difference, whatever was measured."""


def faster(new: Sequence[float], old: Sequence[float]) -> bool:
    """Whether `new` takes less time than `old`, beyond doubt: seconds of each in the same rounds.

    So it is where even the upper quartile of the ratios new / old lies below 1 - MARGIN.
    """
    if min(len(new), len(old)) < FEWEST_ROUNDS:
        return False
    ratios = sorted(a / b for a, b in zip(new, old, strict=False))
    return ratios[math.ceil(0.75 * len(ratios)) - 1] < 1 - MARGIN


def winner(default: Contender, seconds: Mapping[Contender, Sequence[float]]) -> Contender:
    """The method that no other one beats beyond doubt; the default where none beats that.

    Challengers come in the order of `seconds`, which must not depend on what was measured: each
    must beat the best so far. So two contests differ only where a measured difference says so.
    """
    best = default
    for challenger, taken in seconds.items():
        if challenger != best and faster(taken, seconds[best]):
            best = challenger
    return best


def advantage(new: Sequence[float], old: Sequence[float]) -> float:
    """Median of the ratios old / new: how many times faster `new` is."""
    return statistics.median(b / a for a, b in zip(new, old, strict=False))
