"""MALIS: how much each affinity matters to the objects that the affinities make.

Two voxels are joined as strongly as the weakest edge of the best path between them; that one edge
decides about the pair (Turaga et al. 2009, "Maximin affinity learning of image segmentation"). An
edge's weight is the number of pairs it decides about: pairs of different objects, which it may
merge, and pairs of one object, which it may split. All are found in one pass over the edges from
strong to weak, as Kruskal's algorithm joins voxels to a maximum spanning tree (SEMANTICS 3.6).

Affinities are (z, y, x, 3): channel 0, 1, 2 is the edge to the lower neighbour along x, y, z.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

MalisKind = Literal["plain", "num", "pair", "frac", "constrained"]
Floats = NDArray[np.floating]

_JOINED = 0.5  # affinities above join two voxels


@dataclass(frozen=True)
class Malis:
    """What MALIS says of one patch.

    Attributes
    ----------
    weights
        (z, y, x, 3) float64, to multiply the loss gradient of each affinity with: zero where an
        edge decides about no pair.
    """

    weights: NDArray[np.float64]
    _graph: "_Graph"
    _predicted: NDArray[np.float64]

    @property
    def rand_error(self) -> float:
        """Share of all pairs of voxels in objects that are joined and should not be, or the other
        way round, when affinities above 0.5 join. 0 where there is no pair. Joins them anew."""
        graph = self._graph
        joined = graph.pairs(np.where(self._predicted > _JOINED, self._predicted, 0))
        wrong = float(joined.different.sum()) + graph.same - float(joined.same.sum())
        return wrong / graph.all_pairs if graph.all_pairs else 0.0


class _Pairs(NamedTuple):
    """Pairs of voxels that each edge decides about, (edges,) float64."""

    different: NDArray[np.float64]
    same: NDArray[np.float64]


def malis(affinities: Floats, truth: Floats, kind: MalisKind = "plain") -> Malis:
    """Weights of `affinities`, where `truth` says which voxels belong together.

    Objects are what true affinities above 0.5 join; single voxels are boundary and in no pair.
    Edges of equal affinity are taken in raster order, those along x before y before z.

    Parameters
    ----------
    affinities
        Predicted, (z, y, x, 3) in 0 .. 1.
    truth
        The same shape, 0 or 1.
    kind
        "plain": numbers of pairs; "num": divided by the N voxels in objects; "pair": by N (N - 1);
        "frac": pairs count by the shares that their voxels have of their objects. "constrained":
        mergers are counted with all true edges set to 1, above 0.5 only, and splits with all false
        edges set to 0, below 0.5 only, both as shares of all pairs that could be wrong that way
        (Funke et al. 2018).

    Raises
    ------
    ValueError
        If shapes or the kind do not fit.
    ImportError
        If numba is not installed.
    """
    if affinities.shape != truth.shape or affinities.ndim != 4 or affinities.shape[3] != 3:
        raise ValueError(
            f"MALIS needs affinities and truth (z, y, x, 3): found {affinities.shape} and "
            f"{truth.shape}"
        )
    if kind not in get_args(MalisKind):
        known = ", ".join(get_args(MalisKind))
        raise ValueError(f"MALIS of kind {kind!r} is unknown; use one of {known}")
    graph = _Graph(truth)
    predicted = graph.values(affinities)
    if kind == "constrained":
        true = graph.values(truth) > _JOINED
        mergers = graph.pairs(_between(np.where(true, 1, predicted), _JOINED, 1)).different
        splits = graph.pairs(_between(np.where(true, predicted, 0), 0, _JOINED)).same
        weights = _divide(mergers, graph.all_pairs - graph.same) + _divide(splits, graph.same)
    else:
        parts = 1 / graph.sizes if kind == "frac" else np.ones_like(graph.sizes)
        decided = graph.pairs(predicted, parts)
        weights = decided.different + decided.same
        by = {"num": float(graph.sizes.sum()), "pair": 2 * graph.all_pairs}.get(kind, 1)
        weights = _divide(weights, by)
    return Malis(graph.scatter(weights), graph, predicted)


def _between(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """`values` up to `high`, and zero where they are not above `low`."""
    capped = np.minimum(values, high)
    return np.where(capped > low, capped, 0)


def _divide(values: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    return values / by if by else np.zeros_like(values)


class _Graph:
    """The edges of a patch in raster order, and the objects that the true ones join."""

    def __init__(self, truth: Floats) -> None:
        self.shape = truth.shape
        inner = np.ones(truth.shape, bool)
        inner[:, :, 0, 0] = inner[:, 0, :, 1] = inner[0, :, :, 2] = False
        self._places = np.flatnonzero(inner)
        self._here, channels = np.divmod(self._places, 3)
        steps = np.array([1, truth.shape[2], truth.shape[1] * truth.shape[2]])
        self._there = self._here - steps[channels]
        true = self.values(truth) > _JOINED
        voxels = truth[..., 0].size
        roots = _compiled().components(self._here[true], self._there[true], voxels)
        alone = np.bincount(roots, minlength=voxels)[roots] == 1
        roots[alone] = -1
        self.objects = np.unique(np.append(roots, -1), return_inverse=True)[1][:-1]
        """Of every voxel: 1 .. n, and 0 where it is alone."""
        self.sizes = np.bincount(self.objects)[1:].astype(np.float64)
        """Voxels of objects 1 .. n."""
        self.same = float((self.sizes * (self.sizes - 1)).sum()) / 2
        """Pairs of voxels of one object."""
        count = float(self.sizes.sum())
        self.all_pairs = count * (count - 1) / 2
        """Pairs of voxels in objects."""

    def values(self, affinities: Floats) -> NDArray[np.float64]:
        """The affinity of every edge."""
        return affinities.reshape(-1)[self._places].astype(np.float64)

    def scatter(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(z, y, x, 3) of one value per edge."""
        out = np.zeros(self.shape)
        out.reshape(-1)[self._places] = weights
        return out

    def pairs(
        self, values: NDArray[np.float64], parts: NDArray[np.float64] | None = None
    ) -> _Pairs:
        """The pairs that each edge of positive value decides about; a voxel of object i counts as
        parts[i - 1], or as one."""
        each = np.ones(int(self.objects.max())) if parts is None else parts
        order = np.argsort(-values, kind="stable")
        order = order[values[order] > 0]
        different, same = _compiled().decide(
            order, self._here, self._there, self.objects, np.append(0.0, each)
        )
        return _Pairs(different, same)


class _Compiled(NamedTuple):
    components: Callable[..., Any]
    decide: Callable[..., Any]


@cache
def _compiled() -> _Compiled:
    try:
        import numba
    except ImportError:
        raise ImportError(
            "MALIS needs the package numba; run: pip install 'znn-dask[malis]'"
        ) from None
    compiled = numba.njit(nogil=True, error_model="numpy")
    root = compiled(_root)

    def components(here: Any, there: Any, voxels: int) -> Any:
        """The root of every voxel's component."""
        parents = np.arange(voxels)
        for e in range(len(here)):
            parents[root(parents, here[e])] = root(parents, there[e])
        for v in range(voxels):
            parents[v] = root(parents, v)
        return parents

    def decide(order: Any, here: Any, there: Any, objects: Any, parts: Any) -> Any:
        """(different, same) of every edge, voxels joined in this order.

        Each component keeps how much it has of which object as a list, linked in order of objects;
        its first entry stands at the component's root, those of `there` are spliced into it.
        """
        voxels = len(objects)
        parents = np.arange(voxels)
        first, after = np.arange(voxels), np.full(voxels, -1)
        amounts, totals = parts[objects], parts[objects]
        different, same = np.zeros(len(here)), np.zeros(len(here))
        for e in order:
            a, b = root(parents, here[e]), root(parents, there[e])
            if a == b:
                continue
            equal = 0.0
            i, j, last, head = first[a], first[b], -1, -1
            while i >= 0 and j >= 0:
                if objects[i] < objects[j]:
                    take, i = i, after[i]
                elif objects[j] < objects[i]:
                    take, j = j, after[j]
                else:
                    equal += amounts[i] * amounts[j]
                    amounts[i] += amounts[j]
                    take, i, j = i, after[i], after[j]
                if last < 0:
                    head = take
                else:
                    after[last] = take
                last = take
            after[last] = max(i, j)  # what is left of the longer one
            same[e], different[e] = equal, totals[a] * totals[b] - equal
            parents[b], first[a] = a, head
            totals[a] += totals[b]
        return different, same

    return _Compiled(compiled(components), compiled(decide))


def _root(parents: Any, voxel: int) -> int:
    """The root of a voxel's component; the way there is halved."""
    while parents[voxel] != voxel:
        parents[voxel] = parents[parents[voxel]]
        voxel = parents[voxel]
    return voxel
