import time

import cc3d
import numpy as np
import pytest
from scipy import ndimage

from znn_dask.data.sampling import PatchSampler
from znn_dask.data.synthetic import synthetic_volume


@pytest.fixture(scope="module")
def volume():
    start = time.perf_counter()
    made = synthetic_volume((48, 96, 96), seed=3)
    assert time.perf_counter() - start < 20
    return made


def test_shapes_types_and_seeds(volume):
    image, labels = volume
    assert (image.shape, image.dtype) == ((48, 96, 96), np.uint8)
    assert (labels.shape, labels.dtype) == ((48, 96, 96), np.uint32)
    again, ids = synthetic_volume((20, 40, 50), seed=1)
    same, same_ids = synthetic_volume((20, 40, 50), seed=1)
    other, _ = synthetic_volume((20, 40, 50), seed=2)
    np.testing.assert_array_equal(again, same)
    np.testing.assert_array_equal(ids, same_ids)
    assert (again != other).any()


@pytest.mark.parametrize("shape", [(1, 40, 60), (1, 1, 1), (33, 7, 21)])
def test_odd_shapes(shape):
    image, labels = synthetic_volume(shape)
    assert image.shape == labels.shape == shape
    with pytest.raises(ValueError, match="not three positive numbers"):
        synthetic_volume(shape[:2])


def test_cells_are_separate_pieces(volume):
    _, labels = volume
    ids = np.unique(labels)
    assert ids.tolist() == list(range(ids.size))
    assert ids.size > 20
    pieces = cc3d.connected_components(labels, connectivity=26)
    assert pieces.max() == labels.max()
    membrane = (labels == 0).mean()
    assert 0.15 < membrane < 0.4
    for axis in range(3):  # never two cells face to face
        a = np.take(labels, range(labels.shape[axis] - 1), axis)
        b = np.take(labels, range(1, labels.shape[axis]), axis)
        assert not ((a != b) & (a > 0) & (b > 0)).any()


def test_membranes_are_dark_but_no_threshold_finds_them(volume):
    image, labels = volume
    membrane = labels == 0
    assert image[membrane].mean() < image[~membrane].mean() - 15
    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1)
    scores = []
    for level in range(60, 200, 10):
        found = smooth < level
        scores.append(2 * (found & membrane).sum() / (found.sum() + membrane.sum()))
    assert max(scores) < 0.8


def test_it_has_a_membrane_class(volume, make_volume):
    image, labels = volume
    path = make_volume(chunk=32, image=image, labels=labels)
    sampler = PatchSampler(path, {"input": (9, 30, 30)}, {"output": (3, 20, 20)})
    assert sampler.targets["output"].thickness == 0
    assert sampler.patch(0).targets["output"].shape == (3, 20, 20, 2)
