"""A closed surface of triangles."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mesh:
    """The surface of an object.

    number: the object's id. vertices: (n, 3) float32, nm, axes x, y, z; voxel (0, 0, 0) of the
    specimen takes 0 to its size. faces: (m, 3) uint32, counter-clockwise seen from outside.
    """

    number: int
    vertices: np.ndarray
    faces: np.ndarray

    def _corners(self) -> np.ndarray:
        """(m, 3 corners, 3) float64, from the middle of the object, where sums are exact enough."""
        inner = self.vertices.astype(np.float64) - self.vertices.mean(axis=0, dtype=np.float64)
        corners: np.ndarray = inner[self.faces]
        return corners

    @property
    def area(self) -> float:
        """nm^2."""
        a, b, c = np.moveaxis(self._corners(), 1, 0)
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)

    @property
    def volume(self) -> float:
        """nm^3, of a closed mesh."""
        a, b, c = np.moveaxis(self._corners(), 1, 0)
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)

    @property
    def closed(self) -> bool:
        """Whether it has no holes: triangles run along each edge as often forth as back."""
        f = self.faces.astype(np.int64)
        edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
        n = len(self.vertices)
        return np.array_equal(np.sort(edges @ (n, 1)), np.sort(edges @ (1, n)))

    @property
    def euler(self) -> int:
        """Euler characteristic: vertices - edges + triangles; 2 of a ball, 0 of a ring."""
        f = self.faces.astype(np.int64)
        edges = np.sort(np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]), axis=1)
        used = len(np.unique(f))
        return used - len(np.unique(edges, axis=0)) + len(f)

    def normals(self) -> np.ndarray:
        """(n, 3) float32 unit vectors at the vertices, outwards, weighted by area."""
        a, b, c = np.moveaxis(self._corners(), 1, 0)
        flat = np.cross(b - a, c - a)
        total = np.zeros((len(self.vertices), 3))
        for corner in range(3):
            for axis in range(3):
                total[:, axis] += np.bincount(
                    self.faces[:, corner], flat[:, axis], len(self.vertices)
                )
        length = np.linalg.norm(total, axis=1, keepdims=True)
        unit: np.ndarray = (total / np.maximum(length, 1e-30)).astype(np.float32)
        return unit
