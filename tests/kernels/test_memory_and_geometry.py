"""The array pool and the geometry that convolutions stand on."""

import gc
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from znn_dask.kernels import memory
from znn_dask.kernels.geometry import (
    blocks,
    box_shape,
    intersect,
    relative,
    shift,
    split,
    whole,
)
from znn_dask.kernels.layout import kernels_from_znn, kernels_to_znn, map_from_znn, map_to_znn

MEGABYTE = 1 << 20


@pytest.mark.parametrize("shape", [(3,), (10, 11, 3), (64, 64, 70), (128, 128, 65)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.complex128])
def test_arrays_are_aligned_and_writable(shape, dtype):
    a, b = memory.empty(shape, dtype), memory.zeros(shape, dtype)
    assert a.shape == b.shape == shape
    assert a.dtype == dtype
    assert memory.is_aligned(a)
    assert memory.is_aligned(b)
    a.fill(1)
    assert not b.any()
    assert a.all()


def test_memory_is_reused_only_when_the_last_view_is_gone():
    memory.trim()
    a = memory.empty((MEGABYTE,), np.uint8)
    address = a.ctypes.data
    view = a.reshape(1024, 1024)[::-1, 5:].T
    del a
    b = memory.empty((MEGABYTE,), np.uint8)
    assert b.ctypes.data != address
    del view
    c = memory.empty((MEGABYTE - 100,), np.uint8)
    assert c.ctypes.data == address


def test_retained_memory_is_bounded():
    memory.trim()
    assert memory.retained_bytes() == 0
    try:
        memory.set_limit(5 * MEGABYTE)
        arrays = [memory.empty((2 * MEGABYTE,), np.uint8) for _ in range(4)]
        del arrays
        gc.collect()
        assert 4 * MEGABYTE <= memory.retained_bytes() <= 5 * MEGABYTE
        memory.trim()
        assert memory.retained_bytes() == 0
    finally:
        memory.set_limit(memory._default_limit())


def test_the_pool_stays_little_above_what_was_in_use():
    """With sizes that never come twice, so that nothing is taken over as it is."""
    gc.collect()
    memory.trim()
    rng = np.random.default_rng(0)
    arrays: list[np.ndarray] = []
    most = memory.lent_bytes()
    for _ in range(300):
        arrays.append(memory.empty((int(rng.integers(1, 12 * MEGABYTE)),), np.uint8))
        most = max(most, memory.lent_bytes())
        while sum(array.nbytes for array in arrays) > 80 * MEGABYTE:
            del arrays[int(rng.integers(len(arrays)))]
    assert memory.lent_bytes() + memory.retained_bytes() < 1.45 * most + memory.SPARE_BYTES


def test_lent_bytes_are_those_of_living_arrays():
    gc.collect()
    before = memory.lent_bytes()
    a = memory.empty((5 * MEGABYTE,), np.uint8)
    b = memory.empty((3 * MEGABYTE,), np.uint8)[10:]
    assert memory.lent_bytes() == before + 8 * MEGABYTE
    del a
    assert memory.lent_bytes() == before + 3 * MEGABYTE
    del b
    assert memory.lent_bytes() == before


def test_bytes_are_counted_without_taking_them():
    before = memory.lent_bytes()
    found = memory.requested_bytes(lambda: memory.zeros((10**6, 10**6, 3), "f4").reshape(-1, 2))
    assert found == 12 * 10**12
    assert memory.lent_bytes() == before


def test_pool_shared_by_threads_never_lends_memory_twice():
    def work(value):
        for _ in range(300):
            a = memory.empty((5000,), np.int64)
            a.fill(value)
            if not (a == value).all():
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_aligned_copies_only_where_it_must():
    a = memory.zeros((4, 5), np.float32)
    assert memory.aligned(a) is a
    b = memory.aligned(a.T)
    assert memory.is_aligned(b)
    assert b.shape == (5, 4)


def test_boxes():
    a, b = whole((4, 5, 6)), shift(whole((4, 5, 6)), (3, 0, -2))
    assert box_shape(b) == (4, 5, 6)
    assert intersect(a, b) == (slice(3, 4), slice(0, 5), slice(0, 4))
    assert intersect(a, shift(a, (4, 0, 0))) is None
    assert relative(b, b) == a


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 8))
def test_blocks_cover_an_axis_at_multiples_of_the_step(size, step, count):
    cuts = [b[1] for b in blocks((2, size, 3), 1, step, count)]
    assert cuts[0].start == 0
    assert cuts[-1].stop == size
    assert all(a.stop == b.start for a, b in pairwise(cuts))
    assert all(c.start % step == 0 and c.stop > c.start for c in cuts)
    assert len(cuts) <= count


@given(st.tuples(*[st.integers(1, 9)] * 3), st.integers(0, 100))
def test_split_covers_a_grid_once(sizes, most):
    count = np.zeros(sizes, int)
    for part in split(sizes, most):
        count[part] += 1
        assert np.prod(box_shape(part)) <= max(1, most)
    assert (count == 1).all()


def test_layouts_are_each_others_inverse():
    rng = np.random.default_rng(0)
    a, w = rng.standard_normal((3, 4, 5, 6)), rng.standard_normal((2, 3, 4, 5, 6))
    inner, kernels = map_from_znn(a, np.float32), kernels_from_znn(w)
    assert inner.shape == (4, 5, 6, 3)
    assert inner.dtype == np.float32
    assert inner[1, 2, 3, 0] == np.float32(a[0, 1, 2, 3])
    assert kernels[1, 2, 3, 0, 1] == w[0, 1, 1, 2, 3]
    np.testing.assert_array_equal(map_to_znn(map_from_znn(a)), a)
    np.testing.assert_array_equal(kernels_to_znn(kernels), w)
