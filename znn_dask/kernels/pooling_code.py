"""The loops of max-filter and max-pooling, compiled once per dtype (see `loops`).

A line of outputs is worked on at a time: `run` contiguous elements at each of nx places. In a
max-filter that is one place with all voxels and channels, in max-pooling one voxel per place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np

from znn_dask.kernels.jit import Compiled
from znn_dask.kernels.loops import Loops, Value

WINDOWS = (
    *("nz", "ny", "nx", "run"),  # outputs
    *("kz", "ky", "kx"),  # voxels of a window
    *("pz", "py", "px"),  # step from one window of the input to the next
    *("tz", "ty", "tx"),  # step from one voxel of a window to the next
)


@cache
def maximum(dtype: np.dtype[np.floating]) -> Compiled:
    """Maxima y of the windows of x, called with x, y, chosen and WINDOWS.

    Which voxel of its window it was goes to `chosen` (uint8), counted with z running fastest. Of
    equal ones the first wins, as in passes over z, y, x one after the other; not-a-number wins
    over all.
    """
    code = Loops("maximum", dtype, ("x", "y"), WINDOWS, ("chosen",))
    with _lines(code) as (window, line):
        for width, e in code.parts(code["run"]):
            x = code.at(code["x"], code.sum(window, e))
            best, index = code.variable(width), code.byte_variable(width)
            code.set(best, code.load(x, width))
            code.set(index, code.spread_byte(0, width))
            with _voxels(code) as (distance, voxel):
                value = code.load(code.at(x, distance), width)
                wins = code.exceeds(value, code.get(best))
                code.set(best, code.choose(wins, value, code.get(best)))
                this = code.spread_byte(voxel, width)
                code.set(index, code.choose(wins, this, code.get(index)))
            place = code.sum(line, e)
            code.store(code.get(best), code.at(code["y"], place), width)
            code.store(code.get(index), code.at(code["chosen"], place), width)
    return code.compile()


@cache
def scatter(dtype: np.dtype[np.floating]) -> Compiled:
    """Add each value of g to the voxel of dx that was chosen.

    Called with g, dx, chosen and WINDOWS, with the steps of dx.
    """
    code = Loops("scatter", dtype, ("g", "dx"), WINDOWS, ("chosen",))
    with _lines(code) as (window, line), _voxels(code) as (distance, voxel):
        for width, e in code.parts(code["run"]):
            place = code.sum(line, e)
            target = code.at(code["dx"], code.sum(window, distance, e))
            chosen = code.load_bytes(code.at(code["chosen"], place), width)
            here = code.equal(chosen, code.spread_byte(voxel, width))
            value = code.load(code.at(code["g"], place), width)
            value = code.choose(here, value, code.zero(width))
            code.store(code.add(code.load(target, width), value), target, width)
    return code.compile()


@contextmanager
def _lines(code: Loops) -> Iterator[tuple[Value, Value]]:
    """For every place: offsets of its first window in the input and of its outputs."""
    with (
        code.loop(0, code["nz"]) as z,
        code.loop(0, code["ny"]) as y,
        code.loop(0, code["nx"]) as x,
    ):
        window = code.dot((z, y, x), code.arguments("pz", "py", "px"))
        line = code.sum(code.product(code.sum(code.product(z, code["ny"]), y), code["nx"]), x)
        yield window, code.product(line, code["run"])


@contextmanager
def _voxels(code: Loops) -> Iterator[tuple[Value, Value]]:
    """For every voxel of a window: its distance from the first one, and its number."""
    kz, ky = code.arguments("kz", "ky")
    with (
        code.loop(0, code["kx"]) as x,
        code.loop(0, ky) as y,
        code.loop(0, kz) as z,
    ):
        distance = code.dot((z, y, x), code.arguments("tz", "ty", "tx"))
        yield distance, code.sum(code.product(code.sum(code.product(x, ky), y), kz), z)
