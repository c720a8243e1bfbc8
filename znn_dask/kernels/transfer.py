"""Transfer functions: bias and nonlinearity of a node group, and their gradients.

Derivatives are computed from the output alone, so a forward pass keeps one map per node group.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from znn_dask.kernels import transfer_code
from znn_dask.kernels.memory import empty, steps, zeros

Floats = NDArray[np.floating]

# Elements worked on at a time: the few ufuncs of one function then run in the L2 cache.
_CHUNK = 1 << 17


@dataclass(frozen=True)
class TransferFunction:
    """One transfer function with its arguments; immutable and thread-safe."""

    name: str
    args: tuple[float, ...]

    def forward(self, x: Floats, bias: Floats) -> Floats:
        """Add `bias` (c,) to `x` (z, y, x, c), apply the function, both in place; returns `x`.

        Voxels of a line must be contiguous.
        """
        row = np.ascontiguousarray(np.broadcast_to(bias.astype(x.dtype), x.shape[2:]))
        if self.name in transfer_code.FORMULAS:
            code = transfer_code.forward(x.dtype, self.name, self.args)
            code.given((*_lines(x), *steps(x)[:2]))(x.ctypes.data, row.ctypes.data)
            return x
        apply, _ = _FUNCTIONS[self.name]
        for planes in _chunks(x.shape):
            part = x[planes]
            np.add(part, row, out=part)
            apply(part, *self.args)
        return x

    def backward(self, g: Floats, f: Floats) -> Floats:
        """Gradient (c,) of the biases; `g` becomes that of the sum before the function, in place.

        `g` (z, y, x, c) is the gradient of the output `f` that `forward` returned; voxels of their
        lines must be contiguous. Lines are added in the dtype of `g`, the lines' sums in float64.
        """
        if self.name in transfer_code.FORMULAS:
            sums = zeros((g.shape[0], *g.shape[2:]), g.dtype)
            code = transfer_code.backward(g.dtype, self.name, self.args)
            call = code.given((*_lines(g), *steps(g)[:2], *steps(f)[:2]))
            call(g.ctypes.data, f.ctypes.data, sums.ctypes.data)
        else:
            _, differentiate = _FUNCTIONS[self.name]
            for planes in _chunks(g.shape):
                differentiate(g[planes], f[planes], *self.args)
            sums = np.add.reduce(g, axis=1)
        return sums.sum(axis=(0, 1), dtype=np.float64).astype(g.dtype)


def transfer(name: str, args: Sequence[float] = ()) -> TransferFunction:
    """Transfer function `name` with `args`; missing arguments take ZNN's defaults.

    linear(a=1, b=0): a x + b | rectify_linear | tanh(a=1, b=1): a tanh(b x) |
    soft_sign: x / (1 + |x|) | logistics: 1 / (1 + exp(-x)) | forward_logistics: the same forward
    and the identity backward, for losses whose gradient is given before the logistic function.

    Raises ValueError for an unknown name or too many arguments.
    """
    if name not in _DEFAULTS:
        raise ValueError(f"unknown transfer function {name!r}; known: {', '.join(_DEFAULTS)}")
    defaults = _DEFAULTS[name]
    if len(args) > len(defaults):
        raise ValueError(
            f"transfer function {name!r} has {len(args)} arguments {tuple(args)} and takes at most "
            f"{len(defaults)}; correct function_args"
        )
    return TransferFunction(name, (*map(float, args), *defaults[len(args) :]))


def _lines(x: Floats) -> tuple[int, int, int]:
    """Lines (z, y) of a map and the elements of one."""
    nz, ny, nx, channels = x.shape
    return (nz, ny, nx * channels)


def _chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of axis 0 of about `_CHUNK` elements."""
    plane = max(1, int(np.prod(shape[1:])))
    step = max(1, _CHUNK // plane)
    return (slice(start, start + step) for start in range(0, shape[0], step))


def _tanh(x: Floats, a: float, b: float) -> None:
    np.multiply(x, b, out=x)
    np.tanh(x, out=x)
    np.multiply(x, a, out=x)


def _tanh_gradient(g: Floats, f: Floats, a: float, b: float) -> None:
    slope, factor = empty(f.shape, f.dtype), empty(f.shape, f.dtype)
    np.subtract(a, f, out=slope)
    np.add(a, f, out=factor)
    np.multiply(slope, factor, out=slope)
    np.multiply(slope, b / a, out=slope)
    np.multiply(g, slope, out=g)


def _soft_sign(x: Floats) -> None:
    divisor = empty(x.shape, x.dtype)
    np.abs(x, out=divisor)
    np.add(divisor, 1, out=divisor)
    np.divide(x, divisor, out=x)


def _soft_sign_gradient(g: Floats, f: Floats) -> None:
    slope = empty(f.shape, f.dtype)
    np.abs(f, out=slope)
    np.subtract(1, slope, out=slope)
    np.multiply(slope, slope, out=slope)
    np.multiply(g, slope, out=g)


def _logistics(x: Floats) -> None:
    # exp of anything above this limit overflows; the result is below 1e-37 there anyway
    limit = 0.99 * float(np.log(np.finfo(x.dtype).max))
    np.negative(x, out=x)
    np.minimum(x, limit, out=x)
    np.exp(x, out=x)
    np.add(x, 1, out=x)
    np.reciprocal(x, out=x)


def _logistics_gradient(g: Floats, f: Floats) -> None:
    slope = empty(f.shape, f.dtype)
    np.subtract(1, f, out=slope)
    np.multiply(slope, f, out=slope)
    np.multiply(g, slope, out=g)


def _identity_gradient(g: Floats, f: Floats) -> None:
    """As it is."""


_DEFAULTS: dict[str, tuple[float, ...]] = {
    "linear": (1.0, 0.0),
    "rectify_linear": (),
    "tanh": (1.0, 1.0),
    "soft_sign": (),
    "logistics": (),
    "forward_logistics": (),
}

# name -> function (x, *args) and gradient (g, f, *args), in place; the others are compiled
_FUNCTIONS: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {
    "tanh": (_tanh, _tanh_gradient),
    "soft_sign": (_soft_sign, _soft_sign_gradient),
    "logistics": (_logistics, _logistics_gradient),
    "forward_logistics": (_logistics, _identity_gradient),
}
