"""Skeletons: the tree of centre lines of an object."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import KDTree

from znn_dask.neurons.surface import pack

# As in TEASAR (Sato et al. 2000): how much dearer a path becomes away from the centre.
_SHARPNESS, _DEARER = 16, 1e5
_FEWEST = 8
"""Points below which a piece of an object has no skeleton."""
_ROUNDS = 12
"""Rounds of smoothing, which take out the steps of voxels."""


@dataclass(frozen=True)
class Skeleton:
    """A tree, or several where the object is in pieces.

    number: the object's id. vertices: (n, 3) float32, nm, axes x, y, z. radii: (n,) float32, nm, to
    the nearest surface. parents: (n,) int64, the vertex before each on the way to the root, -1 of
    a root.
    """

    number: int
    vertices: np.ndarray
    radii: np.ndarray
    parents: np.ndarray

    @property
    def length(self) -> float:
        """µm, of all branches together."""
        edges = self.edges
        steps = self.vertices[edges[:, 0]].astype(np.float64) - self.vertices[edges[:, 1]]
        return float(np.linalg.norm(steps, axis=1).sum() / 1000)

    @property
    def edges(self) -> np.ndarray:
        """(m, 2) int64: vertex and parent."""
        children = np.flatnonzero(self.parents >= 0)
        return np.stack([children, self.parents[children]], axis=1)

    def _degrees(self) -> np.ndarray:
        return np.bincount(self.edges.ravel(), minlength=len(self.vertices))

    @property
    def ends(self) -> int:
        """Vertices with one neighbour."""
        return int((self._degrees() == 1).sum())

    @property
    def branchings(self) -> int:
        """Vertices with more than two neighbours."""
        return int((self._degrees() > 2).sum())


def centre_lines(
    voxels: np.ndarray, spacing: np.ndarray, *, scale: float, shortest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The skeleton of voxels by TEASAR: positions (n, 3) z, y, x, radii (n,), parents (n,).

    voxels: (n, 3) integers z, y, x, each once; spacing: (3,) nm. From a root at one end, the
    farthest point is reached along the middle of the object; points within `scale` radii and
    `shortest` nm of that path are done; and so on with the farthest point that is left.
    Positions are in nm, of the middle of voxels.
    """
    graph, radii = _graph(voxels, spacing)
    points = (voxels + 0.5) * spacing
    positions, thick, parents = [np.zeros((0, 3))], [np.zeros(0)], [np.zeros(0, np.int64)]
    count = 0
    for part in _components(graph):
        chosen, above = _tree(points[part], radii[part], graph[part][:, part], scale, shortest)
        positions.append(_smoothed(points[part][chosen], above))
        thick.append(radii[part][chosen])
        parents.append(np.where(above < 0, -1, above + count))
        count += len(chosen)
    return np.concatenate(positions), np.concatenate(thick), np.concatenate(parents)


def _graph(voxels: np.ndarray, spacing: np.ndarray) -> tuple[csr_array, np.ndarray]:
    """Distances between neighbouring voxels (26), and from each voxel to the surface, nm."""
    margin = voxels - voxels.min(axis=0) + 1
    keys = pack(margin)
    order = np.argsort(keys)
    keys = keys[order]
    rows, columns, lengths, outside = [], [], [], []
    for step in product((-1, 0, 1), repeat=3):
        if step == (0, 0, 0):
            continue
        target = pack(margin + np.array(step))
        slot = np.minimum(np.searchsorted(keys, target), len(keys) - 1)
        found = keys[slot] == target
        rows.append(np.flatnonzero(found))
        columns.append(order[slot[found]])
        distance = float(np.linalg.norm(np.array(step) * spacing))
        lengths.append(np.full(len(rows[-1]), distance))
        if np.abs(step).sum() == 1:
            outside.append((margin + np.array(step))[~found])
    n = len(voxels)
    entries = (np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns)))
    graph = coo_array(entries, shape=(n, n)).tocsr()
    beyond = np.unique(np.concatenate(outside), axis=0) * spacing
    radii, _ = KDTree(beyond).query(margin * spacing)
    return graph, radii - spacing.min() / 2


def _components(graph: csr_array) -> Iterator[np.ndarray]:
    """Points of each connected part that is no crumb, the largest first."""
    if graph.shape[0] == 0:
        return
    _, label = connected_components(graph, directed=False)
    order = np.argsort(label, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    yield from sorted((p for p in parts if len(p) >= _FEWEST), key=lambda p: (-len(p), p[0]))


def _tree(
    points: np.ndarray, radii: np.ndarray, graph: csr_array, scale: float, shortest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points of the skeleton of one connected part, and the parent of each (-1 of the root)."""
    root = int(np.argmax(dijkstra(graph, indices=0)))
    distance = dijkstra(graph, indices=root)
    middle = radii / radii.max()
    price = _DEARER * (1 - 0.99 * middle) ** _SHARPNESS + 1e-3
    dear = graph.copy()
    dear.data = graph.data * price[graph.indices]
    place = np.full(len(points), -1, np.int64)  # in the skeleton
    place[root] = 0
    chosen, parents = [root], [-1]
    pieces = [np.arange(len(points))]
    while pieces:
        piece = pieces.pop()
        path = _path(dear, place, piece, int(piece[np.argmax(distance[piece])]))
        for node, above in zip(path[-2::-1], path[:0:-1], strict=True):
            place[node] = len(chosen)
            chosen.append(node)
            parents.append(int(place[above]))
        gap, nearest = KDTree(points[path]).query(points[piece])
        left = piece[gap > scale * radii[path][nearest] + shortest]
        pieces += [left[part] for part in _components(graph[left][:, left])]
    return np.array(chosen), np.array(parents)


def _path(dear: csr_array, place: np.ndarray, piece: np.ndarray, target: int) -> list[int]:
    """Points from `target`, in a piece that is left, to the nearest one of the skeleton.

    It is sought in the piece and around it, as far as the skeleton is and half as far again: so it
    joins the skeleton where that is best, and does not run beside it.
    """
    inside = np.zeros(len(place), bool)
    inside[piece] = True
    rim, steps, more = piece, 0, 0
    met = bool((place[piece] >= 0).any())
    while not met or more > 0:
        rim = np.unique(dear[rim].indices)
        rim = rim[~inside[rim]]
        inside[rim] = True
        steps += 1
        more -= 1
        if not met and (place[rim] >= 0).any():
            met, more = True, steps // 2
    around = np.flatnonzero(inside)
    start = np.flatnonzero(place[around] >= 0)
    _, before, _ = dijkstra(
        dear[around][:, around], indices=start, return_predecessors=True, min_only=True
    )
    node = int(np.searchsorted(around, target))
    path = [node]
    while before[node] >= 0:
        node = int(before[node])
        path.append(node)
    found: list[int] = around[path].tolist()
    return found


def _smoothed(positions: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Every vertex between two others moves to the mean of the three, some rounds."""
    children = np.flatnonzero(parents >= 0)
    degrees = np.bincount(parents[children], minlength=len(parents)) + (parents >= 0)
    inner = np.flatnonzero((degrees == 2) & (parents >= 0))
    child = np.zeros(len(parents), np.int64)
    child[parents[children]] = children
    moved = positions.copy()
    for _ in range(_ROUNDS):
        moved[inner] = (moved[inner] + moved[parents[inner]] + moved[child[inner]]) / 3
    return moved
