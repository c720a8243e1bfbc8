"""Granules: what Dask places and orders. Pure; how they become Dask tasks is `dask_graph`.

A Dask task costs about a millisecond and a hop between two about six, so typed tasks are grouped:
one granule per pass when a step is long, and many whole steps in one granule when it is short.

    passes:   load ─> forward ─> backward ─(add)─> update ─> forward of the next step ...
    steps:    train(first step, count) ─> train(...) ...

A granule ends when its type-1 work is done. What it returns may still be filling up in the worker's
engine: gradients and new kernels are type-2 work for the gaps of the granules that follow.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from znn_dask.taskgraph.state import UpdateRule

Key = tuple[Any, ...]

_SHORTEST_GRANULE = 0.25  # seconds
_TYPE_1 = frozenset({"forward", "backward", "train"})


@dataclass(frozen=True)
class Granule:
    """One Dask task.

    Attributes
    ----------
    key
        `("forward:patch", job, epoch, step, patch)`: the first word is the dashboard's colour.
    work
        Which function of `znn_dask.cluster.work` it calls.
    needs
        Keys whose results are its first arguments.
    arguments
        Its further arguments.
    slot
        Which worker it runs on, by place in the session's list of workers.
    step
        Training step, for its priority.
    priority
        Larger runs first; what others wait for has inherited their priority.
    """

    key: Key
    work: str
    needs: tuple[Key, ...]
    arguments: tuple[Any, ...] = ()
    slot: int = 0
    step: int = 0
    priority: float = 0.0

    @property
    def type(self) -> int:
        """1 if its result spawns new work, 2 if it may wait for a gap."""
        return 1 if self.work in _TYPE_1 else 2


@dataclass(frozen=True)
class Names:
    """Keys of one run of a job: a new epoch shares none with the last."""

    job: str
    epoch: int = 0

    def key(self, first: str, *rest: int) -> Key:
        """`(first, job, epoch, *rest)`."""
        return (first, self.job, self.epoch, *rest)

    def context(self, slot: int) -> Key:
        """The task that holds the network and the data on a worker."""
        return self.key("context", slot)


@dataclass(frozen=True)
class Segment:
    """Some training steps as granules.

    `states`: key of the state after them, per slot. `reports`: keys of their loss records.
    """

    granules: tuple[Granule, ...]
    states: tuple[Key, ...]
    reports: tuple[Key, ...]


def steps_per_granule(step_seconds: float) -> int:
    """How many steps one granule holds; 0 means that each pass of a step is its own granule."""
    if step_seconds >= _SHORTEST_GRANULE:
        return 0
    return max(1, round(_SHORTEST_GRANULE / max(step_seconds, 1e-6)))


def training_segment(
    names: Names,
    states: Sequence[Key],
    first: int,
    rules: Sequence[UpdateRule],
    *,
    batch: int,
    whole_steps: bool,
) -> Segment:
    """The granules of steps `first` .. `first + len(rules)`, from one state key per slot.

    Patch r of a batch runs on slot `r * slots // batch`; gradients are summed in a tree over r,
    which does not depend on the slots.
    """
    if whole_steps and batch == 1:
        return _whole_steps(names, states[0], first, rules)
    granules: list[Granule] = []
    reports: list[Key] = []
    for step, rule in enumerate(rules, first):
        new, report, states = _one_step(names, states, step, rule, batch)
        granules += new
        reports.append(report)
    return Segment(inherit(granules), tuple(states), tuple(reports))


def _whole_steps(names: Names, state: Key, first: int, rules: Sequence[UpdateRule]) -> Segment:
    train = names.key("train:steps", first)
    report = names.key("report", first)
    context = names.context(0)
    granules = [
        Granule(train, "train", (context, state), (first, tuple(rules)), 0, first),
        Granule(report, "report", (context, train), (), 0, first),
    ]
    return Segment(inherit(granules), (train,), (report,))


def _one_step(
    names: Names, states: Sequence[Key], step: int, rule: UpdateRule, batch: int
) -> tuple[list[Granule], Key, tuple[Key, ...]]:
    granules: list[Granule] = []
    leaves: list[tuple[Key, int]] = []
    for patch in range(batch):
        slot = patch * len(states) // batch
        context, state = names.context(slot), states[slot]
        load = names.key("load:patch", step, patch)
        forward = names.key("forward:patch", step, patch)
        backward = names.key("backward:patch", step, patch)
        granules += [
            Granule(load, "load", (context,), (step, patch), slot, step),
            Granule(forward, "forward", (context, state, load), (), slot, step),
            Granule(backward, "backward", (context, state, forward), (), slot, step),
        ]
        leaves.append((backward, slot))
    level = 0
    while len(leaves) > 1:
        pairs = [leaves[i : i + 2] for i in range(0, len(leaves), 2)]
        leaves = []
        for i, pair in enumerate(pairs):
            (key, slot), others = pair[0], pair[1:]
            if others:
                total = names.key("add:gradients", step, level, i)
                needs = (names.context(slot), key, others[0][0])
                granules.append(Granule(total, "add", needs, (step,), slot, step))
                key = total
            leaves.append((key, slot))
        level += 1
    new_states = []
    for slot, state in enumerate(states):
        update = names.key("update:kernels", step, slot)
        needs = (names.context(slot), state, leaves[0][0])
        granules.append(Granule(update, "update", needs, (rule,), slot, step))
        new_states.append(update)
    report = names.key("report", step)
    granules.append(Granule(report, "report", (names.context(0), new_states[0]), (), 0, step))
    return granules, report, tuple(new_states)


def inherit(granules: Iterable[Granule]) -> tuple[Granule, ...]:
    """Priorities: earlier steps first, type 1 before type 2, and no need below its dependents.

    Dask inherits nothing: a granule that another waits for must be at least as urgent as it.
    """
    ordered = list(granules)
    inherited: dict[Key, float] = {}
    for i in reversed(range(len(ordered))):
        granule = ordered[i]
        own = -4.0 * granule.step - (granule.type == 2) * 2.0
        priority = max(own, inherited.get(granule.key, own))
        ordered[i] = replace(granule, priority=priority)
        for need in granule.needs:
            inherited[need] = max(inherited.get(need, priority), priority + 0.125)
    return tuple(ordered)
