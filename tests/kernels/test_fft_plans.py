"""Plans are kept, but not for ever."""

import threading

import numpy as np

from znn_dask.kernels import fft


def test_a_thread_keeps_so_many_plans_and_no_more(monkeypatch):
    monkeypatch.setattr(fft, "_MOST_PLANS", 4)
    x = np.random.default_rng(0).standard_normal((40, 3)).astype("f4")
    kept = []

    def run() -> None:
        for n in (*range(8, 20), 8):
            out = np.empty((n // 2 + 1, 3), "c8")
            fft.rfft(x[:n], out, (0,))
            np.testing.assert_allclose(out, np.fft.rfft(x[:n], axis=0), atol=1e-4)
        kept.append(len(vars(fft._plans)))

    thread = threading.Thread(target=run)  # it has no plans yet
    thread.start()
    thread.join()
    assert kept == [4]
