"""Light on surfaces, as the viewer's (page/viewer.js) has it."""

import numpy as np

_KEY = np.array([-0.45, 0.65, 0.75]) / np.linalg.norm([-0.45, 0.65, 0.75])
_FILL = np.array([0.8, -0.1, 0.35]) / np.linalg.norm([0.8, -0.1, 0.35])
_HALF = (_KEY + np.array([0, 0, 1])) / np.linalg.norm(_KEY + np.array([0, 0, 1]))
_GAMMA = 2.2


def shaded(colours: np.ndarray, normals: np.ndarray, openness: np.ndarray) -> np.ndarray:
    """(n, 3) RGB in [0, 1] of points with those colours (n, 3) that are seen from +z.

    normals: (n, 3) unit vectors, x right, y up, z towards the eye. openness: (n,), see `ambient`.
    """
    key = np.maximum(normals @ _KEY, 0)
    fill = np.maximum(normals @ _FILL, 0)
    around = (0.20 + 0.10 * normals[:, 1]) * (0.25 + 0.75 * openness)
    lit = 0.75 * key * (0.6 + 0.4 * openness) + 0.16 * fill + around
    shine = np.maximum(normals @ _HALF, 0) ** 42 * 0.10 * openness
    rim = (1 - np.maximum(normals[:, 2], 0)) ** 3 * 0.10
    base = colours**_GAMMA
    light = base * (1.15 * lit + rim)[:, None] + shine[:, None]
    result: np.ndarray = np.clip(light, 0, 1) ** (1 / _GAMMA)
    return result
