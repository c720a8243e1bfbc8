"""Boundary probability to fragments: a watershed in which every voxel climbs to a cell's centre.

Voxels inside cells (boundary probability below a threshold) climb the smoothed distance to the
boundary (as Beier et al. 2017, Nature Methods 14:101, seed theirs; here to boundaries of several
strengths), the others climb down the boundary probability until they are inside. So a leak in a
membrane does not join two fragments: the later agglomeration decides with the whole contact in
view. As in Zlateski and Seung 2015 (arXiv:1505.00249), where a voxel goes depends on its
surroundings alone: a volume falls into the same fragments whichever way it is cut into blocks.
Voxels name the fragments that they lead to, and where a way leaves what a block knows, or a flat
summit does, a link says which voxel goes on.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from znn_dask.kernels.geometry import Box, Triple, origin, relative, whole
from znn_dask.segmentation.distance import capped_distance
from znn_dask.segmentation.grid import grown, linear, make_box, triple
from znn_dask.segmentation.maps import SegmentationError

# Names of fragments are the number of the first voxel of their summit. A name with this bit belongs
# to a voxel at which a way left what a block knows; it is never the least of what is linked to it.
PASSED_ON = 1 << 62

# Heights are distances to boundaries of several strengths, parts of the seed threshold, added up.
# For the threshold alone a membrane that a network is not sure of would be no obstacle at all.
_STRENGTHS = (1.0, 0.6, 0.36, 0.22, 0.13)

# How far beyond its voxels a block follows their ways, in voxels: most end within.
_MARGIN = 6

# Directions of a step: the six faces first, then the twelve edges.
_STEPS = sorted(
    (step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) < 3),
    key=lambda step: (sum(map(abs, step)), step),
)


@dataclass(frozen=True)
class Landscape:
    """What decides the fragments; lengths in units of the smallest voxel edge.

    seed_threshold: below this boundary probability a voxel is inside a cell.
    smoothing: sigma of the Gaussian applied to the map. spacing: distances are smoothed with half
        of it, so that centres much closer become one; they are told apart up to four times it.
    sampling: voxel edges z, y, x. in_plane: every slice by itself.
    """

    seed_threshold: float = 0.5
    smoothing: float = 0.5
    spacing: float = 2.0
    sampling: tuple[float, float, float] = (1.0, 1.0, 1.0)
    in_plane: bool = False

    @property
    def reach(self) -> float:
        return max(4 * self.spacing, 4.0)

    def sigma(self, length: float) -> tuple[float, float, float]:
        """Sigmas of a Gaussian along z, y, x, voxels."""
        z, y, x = (length / edge for edge in self.sampling)
        return (0.0 if self.in_plane else z, y, x)

    @property
    def slope(self) -> Triple:
        """How far the height of a voxel looks, in voxels."""
        smooth, spread = self.sigma(self.smoothing), self.sigma(self.spacing / 2)
        reach = [int(self.reach / edge) for edge in self.sampling]
        if self.in_plane:
            reach[0] = 0
        # SciPy's Gaussians end at four sigma.
        return triple(
            int(4 * a + 0.5) + r + int(4 * b + 0.5)
            for a, r, b in zip(smooth, reach, spread, strict=True)
        )

    @property
    def margin(self) -> Triple:
        """How far beyond a block ways are followed, and one voxel to see where they leave."""
        return (0 if self.in_plane else _MARGIN + 1, _MARGIN + 1, _MARGIN + 1)

    @property
    def halo(self) -> Triple:
        """Voxels around a block that its fragments need."""
        return triple(a + b for a, b in zip(self.slope, self.margin, strict=True))


@dataclass(frozen=True)
class Fragments:
    """Fragments of a block.

    ids: (z, y, x) uint32, 1..n. names: (n,) int64 ascending, of fragments 1..n, which blocks that
    share a fragment agree upon but for links. links: (m, 2) int64, a name and a voxel of another
    block (its number in the volume): the fragment is the one that this voxel belongs to.
    """

    ids: np.ndarray
    names: np.ndarray
    links: np.ndarray


def block_fragments(
    boundary: np.ndarray, around: Box, block: Box, world: Triple, landscape: Landscape
) -> Fragments:
    """Fragments of one block of a volume of shape `world`.

    boundary: (z, y, x) float32, probability of boundary over the box `around`, which is `block`
    grown by `landscape.halo`.
    """
    known = grown(block, landscape.margin, world)
    height, inside = _heights(boundary, relative(known, around), landscape)
    ends = _ends(height, inside, landscape.in_plane)
    sure = _sure(known, world, landscape.in_plane)
    beyond = np.ones(height.shape, bool)
    beyond[relative(sure, known)] = False
    ends[beyond] = np.flatnonzero(beyond)
    ends = _followed(ends.ravel()).reshape(height.shape)
    reached = np.zeros(ends.size, bool)
    reached[ends[relative(block, known)]] = True
    tops = _tops(ends, reached, height, inside, beyond, landscape.in_plane)
    return _named(tops, ends, known, sure, block, world)


def _sure(known: Box, world: Triple, in_plane: bool) -> Box:
    """All but the outermost layer: there nothing is known of the next voxels, if there are any."""
    low = [int(s.start > 0) for s in known]
    high = [int(s.stop < size) for s, size in zip(known, world, strict=True)]
    if in_plane:
        low[0] = high[0] = 0
    return make_box(
        (s.start + n for s, n in zip(known, low, strict=True)),
        (s.stop - n for s, n in zip(known, high, strict=True)),
    )


def _heights(
    boundary: np.ndarray, known: Box, landscape: Landscape
) -> tuple[np.ndarray, np.ndarray]:
    """(height that ways climb, whether inside a cell) over the box `known` of the array."""
    if landscape.smoothing > 0:
        boundary = ndimage.gaussian_filter(boundary, landscape.sigma(landscape.smoothing))
    height = np.zeros_like(boundary)
    for strength in _STRENGTHS:
        within = boundary < landscape.seed_threshold * strength
        height += capped_distance(within, landscape.sampling, landscape.reach, landscape.in_plane)
    if landscape.spacing > 0:
        height = ndimage.gaussian_filter(height, landscape.sigma(landscape.spacing / 2))
    inside = boundary[known] < landscape.seed_threshold
    return np.where(inside, height[known], -boundary[known]), inside


def _ends(height: np.ndarray, inside: np.ndarray, in_plane: bool) -> np.ndarray:
    """The highest neighbour of every voxel, or itself: (z, y, x) int32 places in the array.

    Of equally high neighbours the first of `_STEPS`. Membranes may be thin and oblique, so only
    ways inside a cell go across edges.
    """
    shape = height.shape
    padded = np.pad(height, 1, constant_values=-np.inf)
    place = np.arange(height.size, dtype=np.int32).reshape(shape)
    best = height.copy()
    higher = np.empty(shape, bool)
    for step in _STEPS:
        if in_plane and step[0]:
            continue
        z, y, x = (slice(1 + s, 1 + s + n) for s, n in zip(step, shape, strict=True))
        np.greater(padded[z, y, x], best, out=higher)
        if sum(map(abs, step)) > 1:
            higher &= inside
        np.copyto(best, padded[z, y, x], where=higher)
        away = (step[0] * shape[1] + step[1]) * shape[2] + step[2]
        place[higher] = np.flatnonzero(higher) + away
    return place


def _followed(place: np.ndarray) -> np.ndarray:
    """Where the way from every voxel ends: (n,) int32, by jumps of doubling length."""
    while True:
        jumped = place[place]
        if np.array_equal(jumped, place):
            return place
        place = jumped


@dataclass(frozen=True)
class _Tops:
    """Voxels at which ways end, in the order of their places in the array.

    position: their z, y, x. number: of the top at each place of the array, -1 elsewhere.
    reached: by ways from the block. passed: at which a way leaves what is known. summit: its
    number from 0, equal for tops that are neighbours.
    """

    position: tuple[np.ndarray, ...]
    number: np.ndarray
    reached: np.ndarray
    passed: np.ndarray
    summit: np.ndarray


def _tops(
    ends: np.ndarray,
    reached: np.ndarray,
    height: np.ndarray,
    inside: np.ndarray,
    beyond: np.ndarray,
    in_plane: bool,
) -> _Tops:
    shape = ends.shape
    last = ends.ravel() == np.arange(ends.size, dtype=np.int32)
    places = np.flatnonzero(last & (reached | ~beyond.ravel()))
    position = np.unravel_index(places, shape)
    passed, level, within = (a.ravel()[places] for a in (beyond, height, inside))
    number = np.full(ends.size, -1, np.int32)
    number[places] = np.arange(len(places), dtype=np.int32)
    pairs = []
    for step in _STEPS:
        if step < (0, 0, 0) or (in_plane and step[0]):
            continue
        there = [p + s for p, s in zip(position, step, strict=True)]
        fits = ~passed
        for p, n in zip(there, shape, strict=True):
            fits &= (p >= 0) & (p < n)
        here = np.flatnonzero(fits)
        z, y, x = (p[here] for p in there)
        other = number[(z * shape[1] + y) * shape[2] + x]
        here, other = here[other >= 0], other[other >= 0]
        same = ~passed[other] & (level[here] == level[other])
        if sum(map(abs, step)) > 1:
            same &= within[here] & within[other]
        pairs.append(np.stack([here[same], other[same]], axis=1))
    u, v = np.concatenate(pairs).T
    links = coo_array((np.ones(len(u), bool), (u, v)), shape=(len(places), len(places)))
    _, summit = connected_components(links, directed=False)
    return _Tops(position, number, reached[places], passed, summit)


def _named(
    tops: _Tops, ends: np.ndarray, known: Box, sure: Box, block: Box, world: Triple
) -> Fragments:
    """Fragments of `block` from the ends of ways in the box `known`."""
    number = linear(tops.position, origin(known), world)
    count = int(tops.summit.max()) + 1
    name = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(name, tops.summit, np.where(tops.passed, number | PASSED_ON, number))
    name = name[tops.summit]

    found = tops.number[ends[relative(block, known)]]
    used = np.zeros(count, bool)
    used[tops.summit[tops.reached]] = True
    here = used[tops.summit]
    names = np.unique(name[here])
    ids = np.searchsorted(names, name).astype(np.uint32) + np.uint32(1)

    # A summit that comes to the edge of what is known may go on there.
    edge = np.zeros(len(number), bool)
    outside = np.zeros(len(number), bool)
    beside = np.ones(len(number), bool)
    for axis, (p, k) in enumerate(zip(tops.position, known, strict=True)):
        at = p + k.start
        edge |= (at == sure[axis].start) & (k.start < sure[axis].start)
        edge |= (at == sure[axis].stop - 1) & (sure[axis].stop < k.stop)
        outside |= (at < block[axis].start) | (at >= block[axis].stop)
        beside &= (at >= block[axis].start - 1) & (at <= block[axis].stop)
    unsure = np.zeros(count, bool)
    unsure[tops.summit[edge]] = True
    linked = here & outside & (tops.passed | (unsure[tops.summit] & (beside | (name == number))))
    return Fragments(ids[found], names, np.stack([name[linked], number[linked]], axis=1))


def sampling_of(
    voxel_size: tuple[float, float, float] | None, in_plane: bool
) -> tuple[float, float, float]:
    """Voxel edges in units of the smallest (of y and x, when every slice is by itself)."""
    z, y, x = voxel_size or (1.0, 1.0, 1.0)
    least = min(y, x) if in_plane else min(z, y, x)
    return z / least, y / least, x / least


def fragments(
    boundary: np.ndarray,
    *,
    seed_threshold: float = 0.5,
    smoothing: float = 0.5,
    spacing: float = 2.0,
    voxel_size: tuple[float, float, float] | None = None,
    in_plane: bool = False,
) -> np.ndarray:
    """Over-segment a boundary map in memory.

    boundary: (z, y, x) float32, probability of boundary. The other settings as for `Landscape`;
    voxel_size: (z, y, x) in nm, distances are measured with it.

    Returns (z, y, x) uint32 with ids 1..n in the order of the fragments' summits; no fragment
    crosses slices when `in_plane`. Raises SegmentationError for other shapes.
    """
    if boundary.ndim != 3:
        raise SegmentationError(f"expected a map with axes z, y, x, got shape {boundary.shape}")
    landscape = Landscape(
        seed_threshold, smoothing, spacing, sampling_of(voxel_size, in_plane), in_plane
    )
    world = triple(boundary.shape)
    box = whole(world)
    return block_fragments(boundary, box, box, world, landscape).ids
