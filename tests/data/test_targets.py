import numpy as np
import pytest

from znn_dask.data.balance import counts, pairs, weight_map
from znn_dask.data.targets import Target


@pytest.fixture
def labels():
    return np.random.default_rng(3).integers(0, 3, (6, 7, 8)).astype(np.uint32)


def test_boundary_of_membrane_labels(labels):
    out = Target("boundary")(labels)
    np.testing.assert_array_equal(out[..., 0], labels > 0)
    np.testing.assert_array_equal(out[..., 1], labels == 0)


@pytest.mark.parametrize("thickness", [1, 2])
def test_boundary_of_dense_labels_by_loops(thickness):
    rng = np.random.default_rng(5)
    labels = np.kron(rng.integers(0, 6, (4, 4, 4)), np.ones((4, 4, 4), int)).astype(np.uint16)
    t = thickness
    out = Target("boundary", t)(labels)
    assert out.shape == (16 - 2 * t,) * 3 + (2,)
    steps = [
        d
        for d in np.ndindex(2 * t + 1, 2 * t + 1, 2 * t + 1)
        if np.abs(np.subtract(d, t)).sum() <= t
    ]
    for v in np.ndindex(out.shape[:3]):
        here = labels[tuple(np.add(v, t))]
        near = {labels[tuple(np.add(v, d))] for d in steps}
        assert out[v][1] == float(here == 0 or near != {here})
        assert out[v].sum() == 1


def test_affinity_by_loops(labels):
    out = Target("affinity")(labels)
    assert out.shape == (5, 6, 7, 3)
    for z, y, x in np.ndindex(5, 6, 7):
        here = labels[z + 1, y + 1, x + 1]
        lower = labels[z + 1, y + 1, x], labels[z + 1, y, x + 1], labels[z, y + 1, x + 1]
        assert out[z, y, x].tolist() == [float(here == n and here > 0) for n in lower]


def test_masks_by_loops(labels):
    mask = (labels > 1).astype(np.uint8) * 7
    out = Target("affinity").mask(mask)
    for z, y, x in np.ndindex(5, 6, 7):
        here = mask[z + 1, y + 1, x + 1]
        lower = mask[z + 1, y + 1, x], mask[z + 1, y, x + 1], mask[z, y + 1, x + 1]
        assert out[z, y, x].tolist() == [float(bool(here or n)) for n in lower]
    dense = Target("boundary", 1).mask(mask)
    np.testing.assert_array_equal(dense[..., 1], mask[1:-1, 1:-1, 1:-1] > 0)


def test_balance_of_boundary(labels):
    target = Target("boundary")
    y = target(labels)
    positive, n = (labels > 0).sum(), labels.size
    patch = weight_map(y, pairs(target, counts(y, None), "patch"))
    expected = np.where(labels > 0, (n - positive) / n, positive / n)
    np.testing.assert_allclose(patch, np.stack([expected] * 2, -1), rtol=1e-6)
    whole = weight_map(y, pairs(target, counts(y, None), "global"))
    expected = np.where(labels > 0, 0.5 * n / positive, 0.5 * n / (n - positive))
    np.testing.assert_allclose(whole, np.stack([expected] * 2, -1), rtol=1e-6)


@pytest.mark.parametrize("balance", ["patch", "global"])
def test_balance_of_affinity_is_per_channel(labels, balance):
    target = Target("affinity")
    y = target(labels)
    mask = target.mask(labels)
    weights = weight_map(y, pairs(target, counts(y, mask), balance))
    for c in range(3):
        counted = y[..., c][mask[..., c] > 0]
        share = counted.mean()
        np.testing.assert_allclose(
            weights[..., c], np.where(y[..., c] > 0, 1 - share, share), rtol=1e-6
        )


def test_absent_class_has_weight_one():
    y = Target("boundary")(np.ones((2, 2, 2), np.uint8))
    for balance in ("patch", "global"):
        assert (weight_map(y, pairs(Target("boundary"), counts(y, None), balance)) == 1).all()


def test_errors():
    with pytest.raises(ValueError, match="unknown target 'semantic'"):
        Target("semantic")
    with pytest.raises(ValueError, match="thickness 1 does not fit"):
        Target("affinity", 1)
