"""Denormal numbers are zero where typed tasks run, and only there."""

import threading

import numpy as np

from znn_dask.kernels.denormals import denormals_flushed, flush_denormals

TINY = np.full(64, 1e-40, np.float32)


def test_inside_the_block_only():
    assert np.all(TINY * np.float32(0.5) > 0)
    with denormals_flushed():
        assert not np.any(TINY * np.float32(0.5))
        assert not np.any(np.full(64, 1e-30, np.float32) * np.float32(1e-10))
    assert np.all(TINY * np.float32(0.5) > 0)


def test_of_one_thread_only():
    found = []

    def run():
        flush_denormals()
        found.append(bool(np.any(TINY * np.float32(0.5))))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [False]
    assert np.all(TINY * np.float32(0.5) > 0)
