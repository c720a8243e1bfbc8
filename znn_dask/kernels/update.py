"""Parameter updates: stochastic gradient descent as ZNN does it.

Gradients enter as sums over the patch; `scale` divides them by patches in the batch x voxels of
one output map. The order of floating-point operations is fixed, inputs are never written to, and
results are fresh arrays (workers of one process share their buffers).
"""

import numpy as np
from numpy.typing import NDArray

from znn_dask.kernels.memory import empty

Floats = NDArray[np.floating]


def sgd_step(
    parameter: Floats,
    velocity: Floats,
    gradient: Floats,
    eta: float,
    momentum: float,
    weight_decay: float,
    scale: float,
) -> tuple[Floats, Floats]:
    """New (kernel, velocity), all arrays of one shape and dtype.

    ZNN semantics for filters: without momentum `w(1 - eta wd) - eta scale g`, and the velocity
    is returned as it came; with momentum classic (not Nesterov)
    `v = momentum v - eta scale g - eta wd w; w = w + v`.
    """
    if momentum != 0:
        return sgd_step_biases(parameter, velocity, gradient, eta, momentum, weight_decay, scale)
    step, new = _fresh(parameter), _fresh(parameter)
    np.multiply(gradient, eta * scale, out=step)
    np.multiply(parameter, 1 - eta * weight_decay, out=new)
    np.subtract(new, step, out=new)
    return new, velocity


def sgd_step_biases(
    parameter: Floats,
    velocity: Floats,
    gradient: Floats,
    eta: float,
    momentum: float,
    weight_decay: float,
    scale: float,
) -> tuple[Floats, Floats]:
    """New (biases, velocity), arrays (c,).

    ZNN semantics for biases: the velocity form always, so that without momentum the velocity holds
    the last step.
    """
    moved, term = _fresh(parameter), _fresh(parameter)
    np.multiply(velocity, momentum, out=moved)
    np.multiply(gradient, eta * scale, out=term)
    np.subtract(moved, term, out=moved)
    if weight_decay != 0:
        np.multiply(parameter, eta * weight_decay, out=term)
        np.subtract(moved, term, out=moved)
    np.add(parameter, moved, out=term)
    return term, moved


def _fresh(like: Floats) -> Floats:
    return empty(like.shape, like.dtype)
