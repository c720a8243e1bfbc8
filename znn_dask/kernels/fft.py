"""Real fast Fourier transforms through FFTW, planned once per layout and thread.

Plans use FFTW_ESTIMATE and one thread each, so that equal layouts give equal bits at every call, in
every thread and process. Only FFTW's execution is thread-safe; planning is done under a lock, and
each thread keeps plan objects of its own. Plans hold no memory: between executions they look at
stand-in arrays of the right strides over a few bytes that are never read.
"""

import threading
from typing import Any

import numpy as np
import pyfftw
from numpy.lib.stride_tricks import as_strided

from znn_dask.kernels.memory import ALIGNMENT

# Plans that a thread keeps: more than the layouts of any network, and a few kilobytes each.
_MOST_PLANS = 512

_planning = threading.Lock()
_plans = threading.local()


def rfft(x: np.ndarray, out: np.ndarray, axes: tuple[int, ...]) -> None:
    """Forward transform of real `x` over `axes` into complex `out`, the last of `axes` halved.

    `out` has the shape of `x`, except n // 2 + 1 along axes[-1]. Any strides. Not normalised.
    """
    _execute(x, out, axes, "FFTW_FORWARD")


def irfft(X: np.ndarray, out: np.ndarray, axes: tuple[int, ...]) -> None:
    """Inverse of `rfft` times the number of points: complex `X` into real `out`. Destroys `X`."""
    _execute(X, out, axes, "FFTW_BACKWARD")


def _execute(source: np.ndarray, target: np.ndarray, axes: tuple[int, ...], direction: str) -> None:
    source_offset = source.ctypes.data % ALIGNMENT
    target_offset = target.ctypes.data % ALIGNMENT
    key = (
        source.shape,
        source.strides,
        target.strides,
        target.shape[axes[-1]],
        source.dtype.char,
        source_offset,
        target_offset,
        axes,
        direction,
    )
    plans: dict[Any, Any] = _plans.__dict__
    entry = plans.get(key)
    if entry is None:
        if len(plans) >= _MOST_PLANS:
            del plans[next(iter(plans))]  # the oldest
        idle = (_stand_in(source, source_offset), _stand_in(target, target_offset))
        entry = plans[key] = (_plan(*idle, axes, direction), *idle)
    plan, idle_source, idle_target = entry
    plan.update_arrays(source, target)
    try:
        plan.execute()
    finally:
        plan.update_arrays(idle_source, idle_target)


def _plan(source: np.ndarray, target: np.ndarray, axes: tuple[int, ...], direction: str) -> Any:
    destroy = ("FFTW_DESTROY_INPUT",) if direction == "FFTW_BACKWARD" else ()
    flags = ("FFTW_ESTIMATE", *destroy)
    with _planning:
        # What was planned before must not influence this plan, and with it the bits.
        pyfftw.forget_wisdom()
        return pyfftw.FFTW(source, target, axes=axes, direction=direction, flags=flags, threads=1)


def _stand_in(array: np.ndarray, offset: int) -> np.ndarray:
    """Array of equal shape, strides and alignment over a few bytes; it must not be read."""
    memory = np.empty(3 * ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT + offset
    point = memory[start : start + array.itemsize].view(array.dtype)
    return as_strided(point, array.shape, array.strides)
