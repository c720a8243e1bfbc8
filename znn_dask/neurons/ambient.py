"""How open a surface is to light from all around: what makes hollows dark and shapes readable."""

import numpy as np


def directions(n: int) -> np.ndarray:
    """(n, 3) unit vectors, evenly over the sphere (Fibonacci)."""
    k = np.arange(n) + 0.5
    z = 1 - 2 * k / n
    angle = np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - z * z)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), z], axis=1)


def openness(
    vertices: np.ndarray, normals: np.ndarray, *, cell: float, lights: int = 32
) -> np.ndarray:
    """(n,) float32 share of the light from all around that reaches each vertex, 0 to 1.

    vertices: (n, 3); normals: (n, 3) unit vectors outwards; cell: about the distance between
    neighbouring vertices, below which nothing throws a shadow. From each of `lights` directions,
    the vertices nearest to it in cells across it are lit, and those just behind.
    """
    received = np.zeros(len(vertices))
    possible = np.full(len(vertices), 1e-9)
    for light in directions(lights):
        facing = normals @ light
        across, up = _axes(light)
        columns = np.stack([vertices @ across, vertices @ up], axis=1)
        columns = ((columns - columns.min(axis=0)) / (1.5 * cell)).astype(np.int64)
        width = columns[:, 0].max() + 1
        place = columns[:, 1] * width + columns[:, 0]
        height = vertices @ light
        top = np.full(place.max() + 1, -np.inf)
        np.maximum.at(top, place, height)
        # A surface seen at a slant rises within a cell by more than a cell.
        slack = cell * (1.5 + 1.5 / np.maximum(facing, 0.15))
        lit = height > top[place] - slack
        weight = np.maximum(facing, 0)
        received += weight * lit
        possible += weight
    share: np.ndarray = np.minimum(received / possible, 1).astype(np.float32)
    return share


def _axes(light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors across a direction."""
    other = np.eye(3)[np.argmin(np.abs(light))]
    across = np.cross(light, other)
    across /= np.linalg.norm(across)
    return across, np.cross(light, across)
