"""Free ranges against a model that knows every byte by itself."""

from hypothesis import given
from hypothesis import strategies as st

from znn_dask.kernels.holes import Holes

SPACE = 60
Action = st.tuples(st.sampled_from(["take", "add", "largest", "before"]), st.integers(1, 12))


def ranges(free: set[int]) -> list[tuple[int, int]]:
    """(start, size) of the longest runs of free bytes."""
    starts = sorted(b for b in free if b - 1 not in free)
    return [(s, next(n for n in range(1, SPACE + 1) if s + n not in free)) for s in starts]


@given(st.lists(Action, max_size=60))
def test_ranges_merge_and_the_smallest_that_is_enough_is_taken(actions):
    holes, others = Holes(), Holes()
    free, rest = set(range(SPACE)), set()
    holes.add(0, SPACE)
    lent: list[tuple[int, int]] = []
    for action, number in actions:
        runs = ranges(free)
        if action == "take":
            start = holes.take(number)
            enough = [(size, first) for first, size in runs if size >= number]
            assert start == (min(enough)[1] if enough else None)
            if start is not None:
                lent.append((start, number))
                free -= set(range(start, start + number))
        elif action == "add" and lent:
            start, size = lent.pop(number % len(lent))
            holes.add(start, size)
            free |= set(range(start, start + size))
        elif action == "largest" and runs:
            start, size = holes.take_largest()
            assert size == max(size for _, size in runs)
            assert (start, size) in runs
            free -= set(range(start, start + size))
            rest |= set(range(start, start + size))
            others.add(start, size)
        elif action == "before":
            behind = dict(ranges(rest))
            fitting = [size for first, size in runs if size + behind.get(first + size, 0) >= number]
            found = holes.take_before(others, number)
            assert (found is None) == (not fitting)
            if found is not None:
                start, size = found
                assert size == max(fitting)
                free -= set(range(start, start + size))
                lent.append(found)
                more = min(behind.get(start + size, 0), max(0, number - size))
                if more:
                    others.take_at(start + size, more)
                    rest -= set(range(start + size, start + size + more))
                    lent.append((start + size, more))
        assert holes.total == len(free)
        assert others.total == len(rest)
    for start, size in ranges(free):
        assert holes.take(size) is not None
        assert start >= 0
    assert holes.total == 0
