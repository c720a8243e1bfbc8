"""Losses of a dense output patch, with ZNN's gradients.

Arrays are (z, y, x, c). Gradients are sums over the patch, not means: the update divides by the
voxels. Weights (mask x rebalancing) multiply both, so the reported value is the *weighted sum* and
weight 0 takes a voxel out of everything. (ZNN masks the value but does not rebalance it.)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from znn_dask.kernels.malis import MalisKind, malis

Floats = NDArray[np.floating]


class LossResult(NamedTuple):
    """What a loss says about one output patch."""

    value: float
    """Weighted sum of the loss over voxels and channels, accumulated in float64."""
    gradient: Floats
    """Weighted gradient with respect to the outputs (see `Loss`), (z, y, x, c)."""
    prediction: Floats
    """Output as a probability or estimate, (z, y, x, c); unmasked."""
    wrong: float
    """Elements (voxels x channels) of non-zero weight on the wrong side of 0.5."""


@dataclass(frozen=True)
class Loss:
    """One loss function; immutable and thread-safe.

    `output_function` is the transfer function that the output node group must have for the gradient
    to be right, or None where any will do. Binomial cross entropy takes probabilities and returns
    the gradient *before* the logistic function (hence forward_logistics, whose backward is the
    identity); softmax takes linear outputs.
    """

    name: str
    output_function: str | None
    _terms: Callable[[Floats, Floats], tuple[Floats, Floats, Floats]]
    _attention: Callable[[Floats, Floats], Floats] | None = None
    """Further weights (z, y, x, c) of the gradient alone, from prediction and truth."""

    def __call__(
        self, outputs: Floats, targets: NDArray[np.generic], weights: Floats | None = None
    ) -> LossResult:
        """Loss of `outputs` (z, y, x, c) against `targets` of the same shape.

        `weights` is None (ones) or broadcastable to that shape, >= 0. The gradient has the dtype
        of `outputs`. Raises ValueError when shapes differ.
        """
        if outputs.shape != targets.shape:
            raise ValueError(
                f"outputs {outputs.shape} and targets {targets.shape} differ; "
                "give one target per output voxel and channel"
            )
        truth = targets.astype(outputs.dtype, copy=False)
        errors, gradient, prediction = self._terms(outputs, truth)
        wrong = (prediction > 0.5) != (truth > 0.5)
        if weights is not None:
            weight = np.broadcast_to(weights, outputs.shape).astype(outputs.dtype)
            np.multiply(errors, weight, out=errors)
            np.multiply(gradient, weight, out=gradient)
            wrong &= weight != 0
        if self._attention is not None:
            gradient *= self._attention(prediction, truth)
        value = float(errors.sum(dtype=np.float64))
        return LossResult(value, gradient, prediction, float(np.count_nonzero(wrong)))


def loss(name: str) -> Loss:
    """Loss by name: square, square-square, binomial, softmax, or ZNN's long names for them.

    square_loss: (p - l)^2 | square-square_loss: the same, zero within 0.2 of the target |
    binomial_cross_entropy | softmax_loss: cross entropy over the channels.

    For affinities, -malis after square, square-square or binomial multiplies their gradients with
    MALIS weights (see `malis`): plain ones, or those of -num, -pair, -frac or -constrained after
    it, as in binomial-malis-pair. The value stays that of the loss.

    Raises ValueError for an unknown name.
    """
    if name not in _LOSSES:
        known = ", ".join(name for name in _LOSSES if "malis" not in name)
        raise ValueError(f"unknown loss {name!r}; known: {known}, and ..-malis (see the docs)")
    return _LOSSES[name]


def _square(p: Floats, l: Floats) -> tuple[Floats, Floats, Floats]:  # noqa: E741
    difference = p - l
    return difference * difference, 2 * difference, p


def _square_square(p: Floats, l: Floats) -> tuple[Floats, Floats, Floats]:  # noqa: E741
    difference = p - l
    difference[np.abs(difference) <= _MARGIN] = 0
    return difference * difference, 2 * difference, p


def _binomial(p: Floats, l: Floats) -> tuple[Floats, Floats, Floats]:  # noqa: E741
    # only the value is clipped: the gradient p - l is exact wherever the logistic saturates
    tiny = np.finfo(p.dtype).eps
    inside = np.clip(p, tiny, 1 - tiny)
    errors = -(l * np.log(inside) + (1 - l) * np.log1p(-inside))
    return errors, p - l, p


def _softmax(x: Floats, l: Floats) -> tuple[Floats, Floats, Floats]:  # noqa: E741
    shifted = x - x.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    p = np.exp(log_p)
    return -(l * log_p), p - l, p


def _malis_weights(p: Floats, l: Floats, kind: MalisKind) -> Floats:  # noqa: E741
    return malis(p, l, kind).weights


_MARGIN = 0.2  # of square-square

_LOSSES = {
    alias: Loss(name, output_function, terms)
    for name, output_function, terms, aliases in (
        ("square", None, _square, ("square", "square_loss")),
        (
            "square-square",
            None,
            _square_square,
            ("square-square", "square-square_loss", "square_square", "square_square_loss"),
        ),
        ("binomial", "forward_logistics", _binomial, ("binomial", "binomial_cross_entropy")),
        ("softmax", "linear", _softmax, ("softmax", "softmax_loss")),
    )
    for alias in aliases
}

_SUFFIXES: dict[str, MalisKind] = {
    "malis": "plain",
    "malis-num": "num",
    "malis-pair": "pair",
    "malis-frac": "frac",
    "malis-constrained": "constrained",
}
_LOSSES |= {
    (name := f"{base}-{suffix}"): replace(
        _LOSSES[base], name=name, _attention=partial(_malis_weights, kind=kind)
    )
    for base in ("square", "square-square", "binomial")
    for suffix, kind in _SUFFIXES.items()
}
