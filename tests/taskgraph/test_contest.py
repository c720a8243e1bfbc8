"""The rule by which a method replaces another, on made-up measurements."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from znn_dask.taskgraph.contest import FEWEST_ROUNDS, MARGIN, advantage, faster, winner

ROUNDS = st.integers(FEWEST_ROUNDS, 20)
SECONDS = st.floats(1e-4, 10)


@st.composite
def contests(draw: st.DrawFn) -> dict[str, list[float]]:
    count = draw(ROUNDS)
    rounds = st.lists(SECONDS, min_size=count, max_size=count)
    return {name: draw(rounds) for name in "dabc"[: draw(st.integers(1, 4))]}


@given(contests())
def test_whoever_wins_against_the_default_beat_somebody(contest: dict[str, list[float]]):
    best = winner("d", contest)
    assert best == "d" or any(faster(contest[best], taken) for taken in contest.values())
    if not any(faster(taken, contest["d"]) for taken in contest.values()):
        assert best == "d"


@given(contests(), st.data())
def test_drift_and_the_order_of_rounds_do_not_matter(contest: dict[str, list[float]], data):
    count = len(contest["d"])
    speeds = data.draw(st.lists(st.sampled_from((0.25, 0.5, 1.0, 4.0)), min_size=count))
    order = data.draw(st.permutations(range(count)))
    other = {name: [taken[i] * speeds[i] for i in order] for name, taken in contest.items()}
    assert winner("d", other) == winner("d", contest)


@given(st.integers(0, 1000), ROUNDS)
def test_equal_methods_leave_the_default(seed: int, count: int):
    """However noisy the machine is, as long as the noise of a round hits all alike, and each one
    wins as often as the other beyond it."""
    rng = random.Random(seed)
    machine = [rng.uniform(1, 10) for _ in range(count)]
    noise = [rng.uniform(0.98, 1.02) for _ in range(count)]
    contest = {
        "d": machine,
        "a": [m * n for m, n in zip(machine, noise, strict=True)],
        "b": [m / n for m, n in zip(machine, noise, strict=True)],
    }
    assert winner("d", contest) == "d"


@given(st.integers(0, 1000), ROUNDS, st.floats(1.2, 50))
def test_a_faster_method_wins_through_drift_and_some_outliers(seed: int, count: int, gain: float):
    rng = random.Random(seed)
    machine = [rng.uniform(1, 10) for _ in range(count)]
    fast = [m / gain * rng.uniform(0.95, 1.05) for m in machine]
    for late in rng.sample(range(count), count // 5):  # something else came in between
        fast[late] *= 100
    assert winner("d", {"d": machine, "a": fast}) == "a"
    assert faster(fast, machine)
    assert not faster(machine, fast)


@given(st.integers(0, 1000), ROUNDS)
def test_a_difference_within_its_own_spread_is_none(seed: int, count: int):
    rng = random.Random(seed)
    machine = [rng.uniform(1, 10) for _ in range(count)]
    half = [m * (0.5 if i % 2 else 2.0) for i, m in enumerate(machine)]
    assert winner("d", {"d": machine, "a": half}) == "d"


def test_a_gain_below_the_margin_is_none():
    default = [1.0] * 15
    assert not faster([1 - MARGIN + 1e-6] * 15, default)
    assert faster([1 - MARGIN - 1e-6] * 15, default)


def test_few_rounds_say_nothing():
    few = FEWEST_ROUNDS - 1
    assert not faster([0.1] * few, [1.0] * 15)
    assert not faster([0.1] * 15, [1.0] * few)
    assert winner("d", {"d": [1.0] * 15, "a": [0.1] * few}) == "d"


def test_of_equal_challengers_the_first_wins():
    contest = {"d": [2.0] * 9, "a": [1.0] * 9, "b": [1.0] * 9, "c": [0.97] * 9}
    assert winner("d", contest) == "a"
    for order in itertools.permutations("abc"):
        assert winner("d", {name: contest[name] for name in ("d", *order)}) == order[0]


def test_advantage_is_a_ratio_of_rounds():
    assert advantage([1.0, 10.0, 2.0], [2.0, 20.0, 8.0]) == 2.0
