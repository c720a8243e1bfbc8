"""MALIS weights against their definition, pair by pair."""

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

pytest.importorskip("numba", reason="MALIS is compiled by numba, which is not installed")

from znn_dask.kernels.losses import loss
from znn_dask.kernels.malis import malis

NORMALISED = ("plain", "num", "pair", "frac")


def edges(size):
    """(place in (z, y, x, 3), here, there) of every edge, in raster order."""
    number = np.arange(np.prod(size)).reshape(size)
    for z, y, x in np.ndindex(*size):
        for c, (dz, dy, dx) in enumerate(((0, 0, 1), (0, 1, 0), (1, 0, 0))):
            if z >= dz and y >= dy and x >= dx:
                yield (z, y, x, c), number[z, y, x], number[z - dz, y - dy, x - dx]


def components(pairs, voxels):
    ends = np.array(pairs, int).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(voxels, voxels))
    return connected_components(graph, directed=False)[1]


def objects(truth):
    """Number of every voxel's object; 0 for a voxel alone."""
    size = truth.shape[:3]
    found = components([(a, b) for at, a, b in edges(size) if truth[at] > 0.5], np.prod(size))
    return np.where(np.bincount(found)[found] == 1, 0, found + 1)


def decided(affinities, which, high=1.0, low=0.0, part=lambda v: 1.0):
    """(different, same) by definition: a pair belongs to the edge that joins it, when edges are
    added one by one from strong to weak."""
    size = affinities.shape[:3]
    usable = [(at, a, b) for at, a, b in edges(size) if min(affinities[at], high) > low]
    usable.sort(key=lambda edge: -min(affinities[edge[0]], high))
    different, same = np.zeros(affinities.shape), np.zeros(affinities.shape)
    before = components([], np.prod(size))
    for n, (at, _, _) in enumerate(usable):
        now = components([(a, b) for _, a, b in usable[: n + 1]], np.prod(size))
        for v, w in itertools.combinations(np.flatnonzero(which), 2):
            if now[v] == now[w] and before[v] != before[w]:
                (same if which[v] == which[w] else different)[at] += part(v) * part(w)
        before = now
    return different, same


def patch(size, seed, levels=0):
    rng = np.random.default_rng(seed)
    affinities = rng.random((*size, 3))
    if levels:  # with ties
        affinities = np.round(affinities * levels) / levels
    labels = rng.integers(0, 4, (np.array(size) + 1) // 2).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    labels = labels[: size[0], : size[1], : size[2]]
    truth = np.zeros((*size, 3))
    truth[:, :, 1:, 0] = (labels[:, :, 1:] == labels[:, :, :-1]) & (labels[:, :, 1:] > 0)
    truth[:, 1:, :, 1] = (labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] > 0)
    truth[1:, :, :, 2] = (labels[1:] == labels[:-1]) & (labels[1:] > 0)
    return affinities, truth


sizes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))


@given(sizes, st.integers(0, 99), st.sampled_from([0, 3]), st.sampled_from(NORMALISED))
@settings(max_examples=40, deadline=None)
def test_an_edges_weight_is_the_pairs_that_it_decides_about(size, seed, levels, kind):
    affinities, truth = patch(size, seed, levels)
    which = objects(truth)
    members = np.bincount(which)
    n = members[1:].sum()
    by = {"num": n, "pair": n * (n - 1)}.get(kind, 1)
    part = (lambda v: 1 / members[which[v]]) if kind == "frac" else (lambda v: 1.0)
    different, same = decided(affinities, which, part=part)
    expected = (different + same) / max(by, 1)
    found = malis(affinities, truth, kind)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-12, atol=1e-15)


@given(sizes, st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_constrained_weights_are_shares_of_what_may_be_merged_and_split(size, seed):
    affinities, truth = patch(size, seed)
    which = objects(truth)
    members = np.bincount(which)[1:]
    n = members.sum()
    same_pairs = (members * (members - 1)).sum() / 2
    different_pairs = n * (n - 1) / 2 - same_pairs
    mergers, _ = decided(np.where(truth > 0.5, 1, affinities), which, 1, 0.5)
    _, splits = decided(np.where(truth > 0.5, affinities, 0), which, 0.5, 0)
    expected = mergers / max(different_pairs, 1) + splits / max(same_pairs, 1)
    found = malis(affinities, truth, "constrained")
    np.testing.assert_allclose(found.weights, expected, rtol=1e-12, atol=1e-15)


@given(sizes, st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_rand_error_is_the_share_of_pairs_judged_wrongly(size, seed):
    affinities, truth = patch(size, seed)
    which = objects(truth)
    inside = np.flatnonzero(which)
    joined = components([(a, b) for at, a, b in edges(size) if affinities[at] > 0.5], np.prod(size))
    pairs = list(itertools.combinations(inside, 2))
    wrong = sum((joined[v] == joined[w]) != (which[v] == which[w]) for v, w in pairs)
    expected = wrong / len(pairs) if pairs else 0.0
    assert malis(affinities, truth).rand_error == pytest.approx(expected)


def test_true_affinities_are_free_of_errors_and_boundary_alone_has_no_weight():
    _, truth = patch((4, 6, 6), 0)
    assert malis(truth, truth).rand_error == 0
    nothing = malis(np.ones((2, 2, 2, 3)), np.zeros((2, 2, 2, 3)))
    assert nothing.rand_error == 0
    assert not nothing.weights.any()


def test_bad_requests_name_both_sides():
    affinities, truth = patch((2, 3, 3), 0)
    with pytest.raises(ValueError, match=r"\(2, 3, 3, 3\) and \(1, 3, 3, 3\)"):
        malis(affinities, truth[:1])
    with pytest.raises(ValueError, match="'most' is unknown; use one of plain, num, pair, frac"):
        malis(affinities, truth, "most")


def test_losses_weigh_their_gradients_and_keep_their_value():
    affinities, truth = patch((3, 4, 4), 2)
    plain, weighted = (
        loss(name)(affinities, truth) for name in ("binomial", "binomial-malis-pair")
    )
    assert weighted.value == plain.value
    np.testing.assert_array_equal(
        weighted.gradient, plain.gradient * malis(affinities, truth, "pair").weights
    )


def test_without_numba_it_says_what_to_install(monkeypatch):
    from znn_dask.kernels.malis import _compiled

    monkeypatch.setitem(sys.modules, "numba", None)
    _compiled.cache_clear()
    affinities, truth = patch((2, 3, 3), 0)
    with pytest.raises(ImportError, match=r"znn-dask\[malis\]"):
        malis(affinities, truth)
