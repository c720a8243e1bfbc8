"""Granules: keys, places, priorities, and a sum over patches that no placement changes."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from znn_dask.taskgraph.granules import (
    FAN,
    Granule,
    Key,
    Names,
    Segment,
    inherit,
    steps_per_granule,
    training_segment,
)
from znn_dask.taskgraph.patch_sum import RunningSum, add_up
from znn_dask.taskgraph.state import UpdateRule

RULE = UpdateRule(0.1, 0.9, 0.0, 1.0)
NAMES = Names("job-1", 2)


def segment(batch: int, slots: int, steps: int = 2, *, whole_steps: bool = False) -> Segment:
    states = [NAMES.key("state", 0, slot) for slot in range(slots)]
    places = [patch * slots // batch for patch in range(batch)]
    return training_segment(
        NAMES, states, 0, [RULE] * steps, places=places, whole_steps=whole_steps
    )


def by_key(found: Segment) -> dict[Key, Granule]:
    return {granule.key: granule for granule in found.granules}


def expression(granules: dict[Key, Granule], key: Key) -> object:
    """How the gradients under `key` are added: nested pairs of patch numbers."""
    granule = granules[key]
    if granule.work == "backward":
        return key[-1]
    if granule.work == "gradients":
        running = RunningSum[object](lambda a, b: (a, b))
        for patch in range(*granule.arguments[1:]):
            running.append(patch)
        return running.total()
    if granule.work == "relay":
        return expression(granules, granule.needs[1])
    sides = granule.needs[2 if granule.work == "update" else 1 :]
    parts = [expression(granules, side) for side in sides]
    return add_up(granule.arguments[0], parts, lambda a, b: (a, b))


def pairwise(batch: int) -> object:
    """Neighbours added up, level by level."""
    sums: list[object] = list(range(batch))
    while len(sums) > 1:
        pairs = [sums[i : i + 2] for i in range(0, len(sums), 2)]
        sums = [tuple(pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return sums[0]


batches = st.integers(1, 40).flatmap(lambda b: st.tuples(st.just(b), st.integers(1, b)))


@given(batches, st.booleans())
def test_the_sum_over_patches_does_not_depend_on_the_slots(sizes: tuple[int, int], shares: bool):
    batch, slots = sizes
    granules = by_key(segment(batch, slots, 1, whole_steps=shares and slots > 1))
    updates = [g for g in granules.values() if g.work == "update"]
    assert len(updates) == slots
    assert all(expression(granules, update.key) == pairwise(batch) for update in updates)


@given(st.integers(2, 40), st.data())
def test_any_split_of_the_patches_adds_them_in_the_same_order(batch: int, data: st.DataObject):
    ends = data.draw(st.sets(st.integers(1, batch - 1), min_size=1))
    places = [sum(patch >= end for end in ends) for patch in range(batch)]
    states = [NAMES.key("state", 0, slot) for slot in range(places[-1] + 1)]
    for shares in (True, False):
        found = by_key(
            training_segment(NAMES, states, 0, [RULE], places=places, whole_steps=shares)
        )
        for granule in found.values():
            if granule.work == "update":
                assert expression(found, granule.key) == pairwise(batch)


@given(st.integers(1, 600))
def test_no_slot_sends_or_receives_more_than_a_few_sums(slots: int):
    """What comes from elsewhere is fetched, so it is counted where it is needed."""
    granules = by_key(segment(slots, slots, 1, whole_steps=True))
    sent, fetched = [0] * slots, [0] * slots
    for granule in granules.values():
        for need in granule.needs:
            if need in granules and granules[need].slot != granule.slot:
                sent[granules[need].slot] += 1
                fetched[granule.slot] += 1
    if slots <= FAN:
        assert sent == fetched == [slots - 1] * slots
        return
    assert sum(sent) == 2 * (slots - 1)
    levels = math.ceil(math.log(slots, FAN))
    assert max(sent) <= FAN + 1
    assert max(fetched) <= (FAN - 1) * levels


@given(batches, st.integers(1, 3))
def test_every_granule_is_placed_once_and_after_its_needs(sizes: tuple[int, int], steps: int):
    batch, slots = sizes
    found = segment(batch, slots, steps)
    known = {NAMES.key("state", 0, slot) for slot in range(slots)}
    known |= {NAMES.context(slot) for slot in range(slots)}
    patches = [0] * slots
    for granule in found.granules:
        assert granule.key not in known
        assert set(granule.needs) <= known
        assert 0 <= granule.slot < slots
        known.add(granule.key)
        patches[granule.slot] += granule.work == "load"
        assert granule.work != "gradients"
        assert granule.needs[0] == NAMES.context(granule.slot)
    assert max(patches) - min(patches) <= steps
    assert len(found.states) == slots
    assert len(found.reports) == steps
    assert set(found.states) | set(found.reports) <= known


@given(batches)
def test_passes_of_a_patch_stay_where_its_state_is(sizes: tuple[int, int]):
    batch, slots = sizes
    granules = by_key(segment(batch, slots, 2))
    for granule in granules.values():
        if granule.work in ("forward", "backward", "gradients", "update"):
            state = granule.needs[1]
            assert state[-1] == granule.slot
            assert granule.step == (state[3] if state[0] == "state" else state[3] + 1)


@given(batches)
def test_no_need_is_less_urgent_than_what_waits_for_it(sizes: tuple[int, int]):
    granules = by_key(segment(*sizes, 3))
    for granule in granules.values():
        for need in granule.needs:
            if need in granules:
                assert granules[need].priority > granule.priority


def test_earlier_steps_come_first():
    """A later step overtakes no type-1 granule of an earlier one."""
    granules = by_key(segment(2, 2, 4)).values()
    for step in range(3):
        now = [g.priority for g in granules if g.step == step and g.type == 1]
        later = [g.priority for g in granules if g.step > step and g.type == 1]
        assert min(now) > max(later)


def test_inherit_raises_a_chain():
    chain = [
        Granule(("a",), "load", (), step=5),
        Granule(("b",), "update", (("a",),), step=5),
        Granule(("c",), "forward", (("b",), ("elsewhere",)), step=1),
        Granule(("d",), "report", (), step=1),
    ]
    a, b, c, d = inherit(chain)
    assert a.priority > b.priority > c.priority == -4.0
    assert d.priority == -6.0
    assert [g.key for g in (a, b, c, d)] == [g.key for g in chain]


def test_whole_steps_are_one_granule_and_its_report():
    found = segment(1, 1, 7, whole_steps=True)
    train, report = found.granules
    assert train.work == "train"
    assert train.arguments == (0, (RULE,) * 7)
    assert found.states == (train.key,)
    assert found.reports == (report.key,)
    assert train.priority > report.priority


def test_a_batch_on_one_slot_is_whole_steps_too():
    assert {g.work for g in segment(5, 1, 3, whole_steps=True).granules} == {"train", "report"}


def test_a_share_of_a_short_step_is_one_granule():
    found = segment(8, 2, 1, whole_steps=True).granules
    assert sorted(g.work for g in found) == [*["gradients"] * 2, "report", *["update"] * 2]
    assert [g.arguments for g in found if g.work == "gradients"] == [(0, 0, 4), (0, 4, 8)]


def colours(granules: Sequence[Granule]) -> set[str]:
    return {granule.key[0] for granule in granules}


def test_keys_tell_jobs_epochs_and_steps_apart():
    found = segment(2, 1, 3)
    assert colours(found.granules) == {
        *("load:patch", "forward:patch", "backward:patch"),
        *("add:gradients", "update:kernels", "report"),
    }
    assert all(not any(c.isdigit() for c in colour) for colour in colours(found.granules))
    other = training_segment(
        Names("job-1", 3), [("state",)], 0, [RULE] * 3, places=[0, 0], whole_steps=False
    )
    assert not set(by_key(found)) & set(by_key(other))


@pytest.mark.parametrize(
    ("seconds", "steps"), [(10.0, 0), (0.25, 0), (0.2, 1), (0.1, 2), (0.001, 250), (0.0, 250_000)]
)
def test_steps_per_granule(seconds: float, steps: int):
    assert steps_per_granule(seconds) == steps
