"""Transfer functions: bias and nonlinearity of a node group, and their gradients.

Derivatives are computed from the output alone, so a forward pass keeps one map per node group.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from znn_dask.kernels.memory import empty

Floats = NDArray[np.floating]

# Elements worked on at a time: the few ufuncs of one function then run in the L2 cache.
_CHUNK = 1 << 17


@dataclass(frozen=True)
class TransferFunction:
    """One transfer function with its arguments; immutable and thread-safe."""

    name: str
    args: tuple[float, ...]
    _apply: Callable[..., None]  # (x, *args), in place
    _differentiate: Callable[..., None]  # (g, f, out, *args); out may be g

    def forward(self, x: Floats, bias: Floats) -> Floats:
        """Add `bias` (c,) to `x` (z, y, x, c), apply the function, both in place; returns `x`."""
        row = np.ascontiguousarray(np.broadcast_to(bias.astype(x.dtype), x.shape[2:]))
        for planes in _chunks(x.shape):
            part = x[planes]
            np.add(part, row, out=part)
            self._apply(part, *self.args)
        return x

    def backward(self, g: Floats, f: Floats, out: Floats | None = None) -> Floats:
        """Gradient with respect to the sum before the function, (z, y, x, c).

        `g` is the gradient of the output `f` that `forward` returned. Writes to `out`, which may be
        `g` itself, or to a fresh array.
        """
        if out is None:
            out = empty(g.shape, g.dtype)
        for planes in _chunks(g.shape):
            self._differentiate(g[planes], f[planes], out[planes], *self.args)
        return out


def transfer(name: str, args: Sequence[float] = ()) -> TransferFunction:
    """Transfer function `name` with `args`; missing arguments take ZNN's defaults.

    linear(a=1, b=0): a x + b | rectify_linear | tanh(a=1, b=1): a tanh(b x) |
    soft_sign: x / (1 + |x|) | logistics: 1 / (1 + exp(-x)) | forward_logistics: the same forward
    and the identity backward, for losses whose gradient is given before the logistic function.

    Raises ValueError for an unknown name or too many arguments.
    """
    if name not in _FUNCTIONS:
        raise ValueError(f"unknown transfer function {name!r}; known: {', '.join(_FUNCTIONS)}")
    defaults, apply, differentiate = _FUNCTIONS[name]
    if len(args) > len(defaults):
        raise ValueError(
            f"transfer function {name!r} has {len(args)} arguments {tuple(args)} and takes at most "
            f"{len(defaults)}; correct function_args"
        )
    resolved = (*map(float, args), *defaults[len(args) :])
    return TransferFunction(name, resolved, apply, differentiate)


def bias_gradient(g: Floats) -> Floats:
    """Gradient (c,) of the biases: sum over the voxels of `g` (z, y, x, c) after `backward`.

    Lines are added in the dtype of `g`, the lines' sums in float64.
    """
    lines = np.add.reduce(g, axis=1)
    return lines.sum(axis=(0, 1), dtype=np.float64).astype(g.dtype)


def _chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of axis 0 of about `_CHUNK` elements."""
    plane = max(1, int(np.prod(shape[1:])))
    step = max(1, _CHUNK // plane)
    return (slice(start, start + step) for start in range(0, shape[0], step))


def _linear(x: Floats, a: float, b: float) -> None:
    if a != 1:
        np.multiply(x, a, out=x)
    if b != 0:
        np.add(x, b, out=x)


def _linear_gradient(g: Floats, f: Floats, out: Floats, a: float, b: float) -> None:
    np.multiply(g, a, out=out)


def _rectify(x: Floats) -> None:
    np.maximum(x, 0, out=x)


def _rectify_gradient(g: Floats, f: Floats, out: Floats) -> None:
    # a float mask: numpy multiplies floats by booleans more slowly
    positive = empty(g.shape, g.dtype)
    np.greater(f, 0, out=positive)
    np.multiply(g, positive, out=out)


def _tanh(x: Floats, a: float, b: float) -> None:
    np.multiply(x, b, out=x)
    np.tanh(x, out=x)
    np.multiply(x, a, out=x)


def _tanh_gradient(g: Floats, f: Floats, out: Floats, a: float, b: float) -> None:
    slope, factor = empty(f.shape, f.dtype), empty(f.shape, f.dtype)
    np.subtract(a, f, out=slope)
    np.add(a, f, out=factor)
    np.multiply(slope, factor, out=slope)
    np.multiply(slope, b / a, out=slope)
    np.multiply(g, slope, out=out)


def _soft_sign(x: Floats) -> None:
    divisor = empty(x.shape, x.dtype)
    np.abs(x, out=divisor)
    np.add(divisor, 1, out=divisor)
    np.divide(x, divisor, out=x)


def _soft_sign_gradient(g: Floats, f: Floats, out: Floats) -> None:
    slope = empty(f.shape, f.dtype)
    np.abs(f, out=slope)
    np.subtract(1, slope, out=slope)
    np.multiply(slope, slope, out=slope)
    np.multiply(g, slope, out=out)


def _logistics(x: Floats) -> None:
    # exp of anything above this limit overflows; the result is below 1e-37 there anyway
    limit = 0.99 * float(np.log(np.finfo(x.dtype).max))
    np.negative(x, out=x)
    np.minimum(x, limit, out=x)
    np.exp(x, out=x)
    np.add(x, 1, out=x)
    np.reciprocal(x, out=x)


def _logistics_gradient(g: Floats, f: Floats, out: Floats) -> None:
    slope = empty(f.shape, f.dtype)
    np.subtract(1, f, out=slope)
    np.multiply(slope, f, out=slope)
    np.multiply(g, slope, out=out)


def _identity_gradient(g: Floats, f: Floats, out: Floats) -> None:
    np.copyto(out, g)


# name -> default arguments, function, gradient
_FUNCTIONS: dict[str, tuple[tuple[float, ...], Callable[..., None], Callable[..., None]]] = {
    "linear": ((1.0, 0.0), _linear, _linear_gradient),
    "rectify_linear": ((), _rectify, _rectify_gradient),
    "tanh": ((1.0, 1.0), _tanh, _tanh_gradient),
    "soft_sign": ((), _soft_sign, _soft_sign_gradient),
    "logistics": ((), _logistics, _logistics_gradient),
    "forward_logistics": ((), _logistics, _identity_gradient),
}
