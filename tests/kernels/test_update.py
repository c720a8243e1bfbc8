"""Updates against the formulas, elementwise in Python floats."""

import numpy as np
import pytest

from znn_dask.kernels.update import sgd_step, sgd_step_biases

ETA, DECAY, SCALE = 0.05, 0.001, 1 / 96


def _arrays(dtype: type, shape: tuple[int, ...] = (2, 3, 2, 4, 5)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(dtype) for _ in range(3)]
    for array in arrays:
        array.flags.writeable = False  # inputs may be shared between workers
    return arrays


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decay", [0, DECAY])
@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize("step", [sgd_step, sgd_step_biases])
def test_update_is_the_formula(step, momentum: float, decay: float, dtype: type) -> None:
    w, v, g = _arrays(dtype)
    new_w, new_v = step(w, v, g, ETA, momentum, decay, SCALE)
    w, v, g = (a.astype(np.float64) for a in (w, v, g))
    if momentum == 0 and step is sgd_step:
        expected_v = v
        expected_w = w * (1 - ETA * decay) - ETA * SCALE * g
    else:
        expected_v = momentum * v - ETA * SCALE * g - ETA * decay * w
        expected_w = w + expected_v
    tolerance = 4 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(new_w, expected_w, rtol=0, atol=4 * tolerance)
    np.testing.assert_allclose(new_v, expected_v, rtol=0, atol=4 * tolerance)
    assert new_w.dtype == new_v.dtype == dtype


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_results_are_fresh_and_repeatable(momentum: float) -> None:
    w, v, g = _arrays(np.float32)
    first, _ = sgd_step(w, v, g, ETA, momentum, DECAY, SCALE)
    second, _ = sgd_step(w, v, g, ETA, momentum, DECAY, SCALE)
    np.testing.assert_array_equal(first, second)
    assert not any(np.shares_memory(first, a) for a in (w, v, g))
