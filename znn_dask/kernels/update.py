"""Parameter updates: stochastic gradient descent as ZNN does it.

Gradients enter as sums over the patch; `scale` divides them by patches in the batch x voxels of
one output map. The order of floating-point operations is fixed, inputs are never written to, and
results are fresh arrays (workers of one process share their buffers).
"""

import numpy as np
from numpy.typing import NDArray

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
        return _momentum_step(parameter, velocity, gradient, eta, momentum, weight_decay, scale)
    step = np.multiply(gradient, eta * scale)
    if weight_decay == 0:
        return np.subtract(parameter, step, out=step), velocity
    decayed = np.multiply(parameter, 1 - eta * weight_decay)
    return np.subtract(decayed, step, out=decayed), velocity


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
    return _momentum_step(parameter, velocity, gradient, eta, momentum, weight_decay, scale)


def _momentum_step(
    parameter: Floats,
    velocity: Floats,
    gradient: Floats,
    eta: float,
    momentum: float,
    weight_decay: float,
    scale: float,
) -> tuple[Floats, Floats]:
    moved = np.multiply(velocity, momentum)
    term = np.multiply(gradient, eta * scale)
    np.subtract(moved, term, out=moved)
    if weight_decay != 0:
        np.multiply(parameter, eta * weight_decay, out=term)
        np.subtract(moved, term, out=moved)
    return np.add(parameter, moved, out=term), moved
