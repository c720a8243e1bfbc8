"""Initial kernels and biases: ZNN's initialisers, seeded.

Numbers are drawn in float64 and then rounded, so float32 and float64 networks of one seed start
from the same weights.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from znn_dask.kernels.geometry import Triple

Range = tuple[int, int]  # fewest and most arguments

# initialiser -> number of `init_args` it takes
_ARGUMENTS: dict[str, Range] = {
    "zero": (0, 0),
    "constant": (1, 1),
    "uniform": (0, 2),
    "gaussian": (0, 2),
    "bernoulli": (0, 1),
    "xavier": (0, 0),
    "msra": (0, 0),
}
_NEED_FANS = ("xavier", "msra")


def initialise(
    init: str,
    init_args: Sequence[float],
    shape: tuple[int, int, int, int, int],
    rng: np.random.Generator,
    dtype: DTypeLike = np.float32,
) -> NDArray[np.floating]:
    """Initial kernel of `shape` (kz, ky, kx, in, out).

    zero | constant(c) | uniform(lo, hi; default -0.1, 0.1; one value r means -r, r) |
    gaussian(mean 0, deviation 0.01) | bernoulli(p 0.5) | xavier: uniform in
    +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010) | msra: gaussian of deviation
    sqrt(2 / fan_in) (He et al. 2015). Fans count the kernel volume: fan_in = in kz ky kx.

    Raises ValueError for an unknown initialiser or a wrong number of arguments.
    """
    volume = math.prod(shape[:3])
    fans = (shape[3] * volume, shape[4] * volume)
    return _draw(init, init_args, shape, fans, rng).astype(dtype)


def initialise_biases(
    init: str | None,
    init_args: Sequence[float],
    size: int,
    rng: np.random.Generator,
    dtype: DTypeLike = np.float32,
) -> NDArray[np.floating]:
    """Initial biases (size,): as `initialise`, zero for None.

    Raises ValueError for xavier and msra too: a bias has no fan.
    """
    if init in _NEED_FANS:
        raise ValueError(f"biases cannot use init {init!r}, which needs fans; use zero or constant")
    return _draw(init or "zero", init_args, (size,), (1, 1), rng).astype(dtype)


def tie(kernel: NDArray[np.floating], repeat: Triple) -> NDArray[np.floating]:
    """Kernel whose blocks of `repeat` (z, y, x) voxels each hold their average.

    Takes and returns (kz, ky, kx, in, out); applied to an initial kernel and after each update. A
    block-tied kernel of 1,6,6 with repeat 1,2,2 acts as a 1,3,3 kernel on voxels twice as wide.

    Raises ValueError if a kernel edge is not a multiple of its repeat.
    """
    size = kernel.shape[:3]
    if any(r < 1 or k % r for k, r in zip(size, repeat, strict=True)):
        raise ValueError(
            f"kernel size {size} is not a multiple of repeat {repeat}; "
            "choose a repeat that divides each edge"
        )
    if math.prod(repeat) == 1:
        return kernel.copy()
    blocks = [n for k, r in zip(size, repeat, strict=True) for n in (k // r, r)]
    split = kernel.reshape(*blocks, *kernel.shape[3:])
    average = split.mean(axis=(1, 3, 5), keepdims=True, dtype=kernel.dtype)
    return np.broadcast_to(average, split.shape).reshape(kernel.shape).copy()


def _draw(
    init: str,
    arguments: Sequence[float],
    shape: tuple[int, ...],
    fans: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    _check(init, arguments)
    match init, tuple(arguments):
        case "constant", (value,):
            return np.full(shape, value, np.float64)
        case "uniform", (radius,):
            return rng.uniform(-radius, radius, shape)
        case "uniform", given:
            low, high = given or (-0.1, 0.1)
            return rng.uniform(low, high, shape)
        case "gaussian", given:
            mean, deviation = (*given, *(0.0, 0.01)[len(given) :])
            return rng.normal(mean, deviation, shape)
        case "bernoulli", given:
            return (rng.random(shape) < (given[0] if given else 0.5)).astype(np.float64)
        case "xavier", _:
            radius = math.sqrt(6 / sum(fans))
            return rng.uniform(-radius, radius, shape)
        case "msra", _:
            return rng.normal(0, math.sqrt(2 / fans[0]), shape)
    return np.zeros(shape, np.float64)


def _check(init: str, arguments: Sequence[float]) -> None:
    if init not in _ARGUMENTS:
        raise ValueError(f"unknown init {init!r}; known: {', '.join(_ARGUMENTS)}")
    fewest, most = _ARGUMENTS[init]
    if not fewest <= len(arguments) <= most:
        wanted = str(most) if fewest == most else f"{fewest} to {most}"
        raise ValueError(
            f"init {init!r} has {len(arguments)} arguments {tuple(arguments)} and takes {wanted}; "
            "correct init_args"
        )
