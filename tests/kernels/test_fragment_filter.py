"""Fragments of a max-filter against the whole of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.kernels.fragments import FragmentFilter
from znn_dask.kernels.geometry import blocks, relative, whole
from znn_dask.kernels.pooling import MaxFilter

triples = st.tuples(*[st.integers(1, 3)] * 3)


@settings(max_examples=60, deadline=None)
@given(
    size=triples,
    dilation=triples,
    fragments=triples,
    gaps=triples,
    periods=triples,
    axis=st.integers(0, 2),
    count=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_it_computes_some_voxels_of_the_whole(
    size, dilation, fragments, gaps, periods, axis, count, seed
) -> None:
    rng = np.random.default_rng(seed)
    # as in a network: windows overlap or follow each other in steps of more than the fragments
    size = tuple(max(2, k) for k in size)
    stride = tuple(f + gap for f, gap in zip(fragments, gaps, strict=True))
    kernel = FragmentFilter(MaxFilter(size, dilation, stride), fragments)
    output = tuple(f * n for f, n in zip(fragments, periods, strict=True))
    box = kernel.input_box(whole(output), (0, 0, 0))
    x = rng.integers(0, 9, (*(part.stop for part in box), 2)).astype(np.float64)
    every, residue = MaxFilter(size, dilation).forward(x)
    places = np.ix_(
        *(
            [p * s + f for p in range(n) for f in range(each)]
            for n, s, each in zip(periods, stride, fragments, strict=True)
        )
    )
    g = rng.integers(-8, 9, (*output, 2)).astype(np.float64)
    spread = np.zeros_like(every)
    spread[places] = g
    expected_dx = MaxFilter(size, dilation).backward(spread, residue, x.shape)

    y, dx = np.full_like(g, np.nan), np.zeros_like(x)
    for block in blocks(output, axis, fragments[axis], count):
        read = kernel.input_box(block, x.shape[:3])
        part, chosen = kernel.forward(x[read])
        y[block] = part
        dx[read] += kernel.backward(g[relative(block, whole(output))], chosen, x[read].shape)
    np.testing.assert_array_equal(y, every[places])
    np.testing.assert_array_equal(dx, expected_dx)


def test_a_block_that_cuts_through_fragments_is_refused() -> None:
    kernel = FragmentFilter(MaxFilter((1, 2, 2), (1, 1, 1), (1, 2, 4)), (1, 1, 2))
    with pytest.raises(ValueError, match="block 2:3 cuts through 2 fragments"):
        kernel.input_box((slice(0, 1), slice(0, 4), slice(2, 3)), (1, 8, 8))
