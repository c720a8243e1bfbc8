"""The loops of transfer functions, one pass over a map each way (see `loops`).

Forward adds the biases and applies the function; backward multiplies by the derivative and adds up
the gradients of the biases, line by line. A line of nx voxels is a run of contiguous elements.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from znn_dask.kernels.jit import Compiled
from znn_dask.kernels.loops import Loops, Value

FORWARD = (
    *("nz", "ny", "run"),
    *("xz", "xy"),  # strides of x
)
BACKWARD = (
    *("nz", "ny", "run"),
    *("gz", "gy"),  # strides of g
    *("fz", "fy"),  # and of f
)


@cache
def forward(dtype: np.dtype[np.floating], name: str, args: tuple[float, ...]) -> Compiled:
    """x = function(x + bias), called with x, bias (for a whole line) and FORWARD."""
    code = Loops("forward_" + name, dtype, ("x", "bias"), FORWARD)
    with code.loop(0, code["nz"]) as z, code.loop(0, code["ny"]) as y:
        line = code.at(code["x"], code.dot((z, y), code.arguments("xz", "xy")))
        for width, e in code.parts(code["run"]):
            place = code.at(line, e)
            bias = code.load(code.at(code["bias"], e), width)
            total = code.add(code.load(place, width), bias)
            code.store(FORMULAS[name][0](code, total, *args), place, width)
    return code.compile()


@cache
def backward(dtype: np.dtype[np.floating], name: str, args: tuple[float, ...]) -> Compiled:
    """g = gradient(g, f) and, for each z, sums (nz, run) += g over y, called with g, f, sums and
    BACKWARD."""
    code = Loops("backward_" + name, dtype, ("g", "f", "sums"), BACKWARD)
    with code.loop(0, code["nz"]) as z, code.loop(0, code["ny"]) as y:
        g = code.at(code["g"], code.dot((z, y), code.arguments("gz", "gy")))
        f = code.at(code["f"], code.dot((z, y), code.arguments("fz", "fy")))
        sums = code.at(code["sums"], code.product(z, code["run"]))
        for width, e in code.parts(code["run"]):
            values = (code.load(code.at(line, e), width) for line in (g, f))
            gradient = FORMULAS[name][1](code, *values, *args)
            code.store(gradient, code.at(g, e), width)
            place = code.at(sums, e)
            code.store(code.add(code.load(place, width), gradient), place, width)
    return code.compile()


def _rectify(code: Loops, x: Value) -> Value:
    zero = code.zero(x.type.count)
    return code.choose(code.exceeds(zero, x), zero, x)


def _rectify_gradient(code: Loops, g: Value, f: Value) -> Value:
    return code.choose(code.positive(f), g, code.zero(g.type.count))


def _linear(code: Loops, x: Value, a: float, b: float) -> Value:
    if (a, b) == (1, 0):
        return x
    return code.multiply_add(x, *(code.number(v, x.type.count) for v in (a, b)))


def _linear_gradient(code: Loops, g: Value, f: Value, a: float, b: float) -> Value:
    width = g.type.count
    return code.multiply_add(g, code.number(a, width), code.zero(width))


# name -> function of a vector, gradient from that of the output and the output
FORMULAS: dict[str, tuple[Callable[..., Value], Callable[..., Value]]] = {
    "linear": (_linear, _linear_gradient),
    "rectify_linear": (_rectify, _rectify_gradient),
}
