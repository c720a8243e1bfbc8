"""The blocks of a prediction as cells of a picture."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.dashboard.charts import cell_colour
from znn_dask.dashboard.mosaic import MOST_CELLS, MOST_SLICES, mosaic
from znn_dask.dashboard.style import DONE, MISSING, RUNNING

sizes = st.tuples(st.integers(1, 90), st.integers(1, 60), st.integers(1, 60))


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(0, 2**32 - 1))
def test_every_block_is_in_one_cell(grid: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    done = rng.random(np.prod(grid)) < 0.5
    running = rng.choice(len(done), min(5, len(done)), replace=False).tolist()
    found = mosaic(grid, 8 * grid[0], 8, done, running)
    assert sum(found.total) == len(done)
    assert sum(found.done) == done.sum()
    assert sum(found.running) == len(running)
    assert len(set(zip(found.x, found.y, strict=True))) == len(found.x)
    assert len(found.x) <= MOST_CELLS
    assert len(found.slices) <= MOST_SLICES
    assert max(found.x) < found.width
    assert max(found.y) < found.height


def test_cells_lie_slice_by_slice() -> None:
    found = mosaic((2, 2, 3), 12, 8, np.arange(12) < 7, [7])
    at = {where: i for i, where in enumerate(found.where)}
    first, last = at["0, 0, 0"], at["1, 1, 2"]
    assert (found.x[first], found.y[first]) == (0.5, 0.5)
    assert found.x[at["0, 0, 1"]] == found.x[first] + 1
    assert found.y[at["0, 1, 0"]] == found.y[first] + 1
    assert found.x[last] > found.x[at["0, 0, 2"]] + 1  # the second slice stands beside
    assert [text for _, _, text in found.slices] == ["z 0–7", "z 8–11"]
    assert found.done[at["1, 0, 0"]] == 1
    assert found.running[at["1, 0, 1"]] == 1


def test_many_blocks_share_a_cell() -> None:
    found = mosaic((80, 50, 50), 800, 10, np.ones(80 * 50 * 50, bool), [])
    assert max(found.total) > 1
    assert found.where[0] == "0–1, 0–4, 0–4"


def test_colours_tell_what_a_cell_is() -> None:
    assert cell_colour(1, 0, 0) == MISSING
    assert cell_colour(1, 1, 0) == DONE.lower()
    assert cell_colour(4, 2, 1) == RUNNING
    assert cell_colour(100, 1, 0) != MISSING
