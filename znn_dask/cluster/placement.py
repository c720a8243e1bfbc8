"""Which worker computes which patches of a batch. Pure; it decides the time and never the bits."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from znn_dask.cluster.members import Member

Estimate = Callable[[Sequence[int], Sequence[int]], float]
"""(threads of every slot, patches of every slot) -> predicted seconds of a step."""


@dataclass(frozen=True)
class Placement:
    """`workers`: address of every slot. `places`: slot of every patch, in order."""

    workers: tuple[str, ...]
    places: tuple[int, ...]


def place(
    workers: Sequence[Member],
    batch: int,
    estimate: Estimate | None = None,
    home: str | None = None,
) -> Placement:
    """Spread the patches of a batch over workers, in proportion to their threads.

    Neighbouring patches are on one worker, and neighbouring workers on one host, so that most of
    the sum of gradients stays local. With an `estimate`, as many workers are used as make a step
    shortest: where steps are short, the exchange costs more than other workers bring. Among equal
    workers the one at the address `home` is used first: trainings of different homes keep apart.

    Raises
    ------
    ValueError
        If there are no workers.
    """
    if not workers:
        raise ValueError("no workers to place patches on")
    counts = _counts(min(len(workers), batch))
    candidates = [_spread(_best(workers, count, home), batch) for count in counts]
    if estimate is None:
        used, patches = candidates[-1]
    else:
        used, patches = min(
            candidates, key=lambda c: estimate([member.threads for member in c[0]], c[1])
        )
    places = (slot for slot, count in enumerate(patches) for _ in range(count))
    return Placement(tuple(member.address for member in used), tuple(places))


def _counts(most: int) -> Iterable[int]:
    """1, 2, 4, ... and all."""
    return [*(1 << i for i in range((most - 1).bit_length())), most]


def _best(workers: Sequence[Member], count: int, home: str | None) -> list[Member]:
    """So many workers: those of the most threads, over as many hosts as there are."""
    rank: dict[str, int] = {}
    order = []
    for member in sorted(workers, key=lambda m: (-m.threads, m.address != home, m.host, m.address)):
        away = member.address != home
        nth = rank[member.host] = rank.get(member.host, -1) + 1
        order.append((-member.threads, nth, away, member.host, member.address, member))
    chosen = [entry[-1] for entry in sorted(order, key=lambda entry: entry[:-1])[:count]]
    return sorted(chosen, key=lambda m: (m.host, m.address))


def _spread(workers: Sequence[Member], batch: int) -> tuple[list[Member], list[int]]:
    """Patches of each worker, so that the slowest has the least to do; none without a patch."""
    heap = [(1 / member.threads, i) for i, member in enumerate(workers)]
    heapq.heapify(heap)
    patches = [0] * len(workers)
    for _ in range(batch):
        _, i = heap[0]
        patches[i] += 1
        heapq.heapreplace(heap, ((patches[i] + 1) / workers[i].threads, i))
    used = [i for i, count in enumerate(patches) if count]
    return [workers[i] for i in used], [patches[i] for i in used]
