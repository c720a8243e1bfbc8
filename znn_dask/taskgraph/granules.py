"""Granules: what Dask places and orders. Pure; how they become Dask tasks is `dask_graph`.

A Dask task costs about a millisecond and a hop between two about six, so typed tasks are grouped:
one granule per pass when a step is long, and many whole steps in one granule when it is short.

    passes:   load ─> forward ─> backward ─(add)─> update ─> forward of the next step ...
    shares:   gradients(patches of a slot) ─(add)─> update ─> gradients(...) ...
    steps:    train(first step, count) ─> train(...) ...

Short steps on several slots are shares: what a slot computes of a step is one granule. A granule
ends when its type-1 work is done. What it returns may still be filling up in the worker's engine:
gradients and new kernels are type-2 work for the gaps of the granules that follow.

Between slots the sums of gradients travel. The patches' tree (`patch_sum`) is computed `FAN` ways
at a time, each node where its first operand is, and its root goes back from slot to slot, each
passing it on to `FAN` others, so that no worker sends or receives more than a few copies at a
level. Up to `FAN` slots need neither: each fetches the others' sums and adds them itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from znn_dask.taskgraph.patch_sum import (
    Node,
    local_nodes,
    operands,
    order_of,
    patches_of,
    root,
)
from znn_dask.taskgraph.state import UpdateRule

Key = tuple[Any, ...]

FAN = 4
_FAN_LEVELS = 2  # additions on the way from a node to its FAN operands
_SHORTEST_GRANULE = 0.25  # seconds
_TYPE_1 = frozenset({"forward", "backward", "gradients", "train"})


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
    step, patch
        Of training, for its priority: earlier ones first, so that few patches are under way.
    priority
        Larger runs first; what others wait for has inherited their priority.
    """

    key: Key
    work: str
    needs: tuple[Key, ...]
    arguments: tuple[Any, ...] = ()
    slot: int = 0
    step: int = 0
    patch: int = 0
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


def relayed_from(slot: int) -> int:
    """The slot that passes states and sums on to this one; slot 0 has the originals."""
    return (slot - 1) // FAN


def training_segment(
    names: Names,
    states: Sequence[Key],
    first: int,
    rules: Sequence[UpdateRule],
    *,
    places: Sequence[int],
    whole_steps: bool,
) -> Segment:
    """The granules of steps `first` .. `first + len(rules)`, from one state key per slot.

    Patch r of a batch runs on slot `places[r]`: 0, ..., 0, 1, ..., 1, and so on. The order in which
    gradients are added depends on the number of patches alone.
    """
    if whole_steps and len(states) == 1:
        return _whole_steps(names, states[0], first, rules)
    granules: list[Granule] = []
    reports: list[Key] = []
    for step, rule in enumerate(rules, first):
        made = _Step(names, tuple(states), step, tuple(places))
        made.gradients_of_patches(whole_steps)
        states = made.update(rule)
        report = names.key("report", step)
        made.granules.append(
            Granule(report, "report", (names.context(0), states[0]), (), 0, step, len(places))
        )
        granules += made.granules
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


class _Step:
    """The granules of one step."""

    def __init__(
        self, names: Names, states: tuple[Key, ...], step: int, places: tuple[int, ...]
    ) -> None:
        self.names, self.states, self.step, self.places = names, states, step, places
        self.granules: list[Granule] = []
        self._batch = len(places)
        self._local = set(local_nodes(root(self._batch), places))
        self._made: dict[Node, Key] = {}

    def gradients_of_patches(self, in_shares: bool) -> None:
        """The passes of every patch, and the sums of patches that share a slot."""
        for node in sorted(self._local, key=lambda node: patches_of(node, self._batch).start):
            if in_shares:
                self._share(node)
            else:
                self._passes(node)

    def update(self, rule: UpdateRule) -> tuple[Key, ...]:
        """Sum over the slots and update the state of each; the new states' keys."""
        top = root(self._batch)
        if len(self.states) <= FAN:
            given = operands(top, self._batch, self._local.__contains__, self._batch)
        else:
            given = [top]
            self._sum(top)
        order = order_of(top, given, self._batch)
        sums = [tuple(self._made[node] for node in given)] * len(self.states)
        if len(self.states) > FAN:
            sums = self._relay(self._made[top])
        return tuple(
            self._granule("update:kernels", "update", slot, (state, *sums[slot]), (order, rule))
            for slot, state in enumerate(self.states)
        )

    def _share(self, node: Node) -> None:
        patches = patches_of(node, self._batch)
        slot, arguments = self.places[patches.start], (self.step, patches.start, patches.stop)
        self._made[node] = self._granule(
            "gradients:patches", "gradients", slot, (self.states[slot],), arguments, patches.start
        )

    def _passes(self, node: Node) -> None:
        patches = patches_of(node, self._batch)
        if len(patches) > 1:
            given = operands(node, 1, lambda _: False, self._batch)
            for side in given:
                self._passes(side)
            self._add(node, given)
            return
        (patch,) = patches
        slot = self.places[patch]
        state = self.states[slot]
        load = self._granule("load:patch", "load", slot, (), (self.step, patch), patch)
        forward = self._granule("forward:patch", "forward", slot, (state, load), (), patch)
        self._made[node] = self._granule(
            "backward:patch", "backward", slot, (state, forward), (), patch
        )

    def _sum(self, node: Node) -> None:
        if node in self._local:
            return
        given = operands(node, _FAN_LEVELS, self._local.__contains__, self._batch)
        for operand in given:
            self._sum(operand)
        self._add(node, given)

    def _add(self, node: Node, given: Sequence[Node]) -> None:
        patch = patches_of(node, self._batch).start
        order = order_of(node, given, self._batch)
        key = self.names.key("add:gradients", self.step, *node)
        slot = self.places[patch]
        needs = (self.names.context(slot), *(self._made[operand] for operand in given))
        last = patches_of(node, self._batch).stop - 1
        self.granules.append(Granule(key, "add", needs, (order, self.step), slot, self.step, last))
        self._made[node] = key

    def _relay(self, total: Key) -> list[tuple[Key, ...]]:
        """Where every slot gets the total from."""
        slots = len(self.states)
        at: dict[int, Key] = {0: total}
        for slot in range(1, slots):
            if FAN * slot + 1 < slots:  # it passes the total on
                source = (at[relayed_from(slot)],)
                at[slot] = self._granule("relay:gradients", "relay", slot, source)
        return [(at[slot if slot in at else relayed_from(slot)],) for slot in range(slots)]

    def _granule(
        self,
        word: str,
        work: str,
        slot: int,
        needs: tuple[Key, ...],
        arguments: tuple[Any, ...] = (),
        patch: int | None = None,
    ) -> Key:
        key = self.names.key(word, self.step, slot if patch is None else patch)
        self.granules.append(
            Granule(
                *(key, work, (self.names.context(slot), *needs), arguments, slot, self.step),
                self._batch if patch is None else patch,
            )
        )
        return key


def inherit(granules: Iterable[Granule]) -> tuple[Granule, ...]:
    """Priorities: earlier steps first, type 1 before type 2, earlier patches first.

    No need is below its dependents.

    Dask inherits nothing: a granule that another waits for must be at least as urgent as it.
    """
    ordered = list(granules)
    inherited: dict[Key, float] = {}
    for i in reversed(range(len(ordered))):
        granule = ordered[i]
        patch = granule.patch / (1.0 + granule.patch)  # of any number of patches: below 1
        own = -4.0 * granule.step - (granule.type == 2) * 2.0 - patch
        priority = max(own, inherited.get(granule.key, own))
        ordered[i] = replace(granule, priority=priority)
        for need in granule.needs:
            inherited[need] = max(inherited.get(need, priority), priority + 0.125)
    return tuple(ordered)
