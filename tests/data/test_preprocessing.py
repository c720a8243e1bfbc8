import json

import numpy as np
import pytest

from znn_dask.data.preprocessing import Preprocessing
from znn_dask.data.volume import open_volume


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (10, 21, 17), np.uint8)


def test_standard_2d_is_per_slice(image, make_volume):
    array = open_volume(make_volume(image=image)).image
    fitted = Preprocessing("standard2D").fit(array)
    out = fitted.apply(image, slice(0, 10))
    x = image.astype(np.float64)
    expected = (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, expected, atol=2e-6)
    np.testing.assert_array_equal(fitted.apply(image[3:7], slice(3, 7)), out[3:7])
    np.testing.assert_array_equal(fitted.apply(image[::-1], np.arange(10)[::-1]), out[::-1])


def test_standard_3d_and_rescale(image, make_volume):
    array = open_volume(make_volume(image=image)).image
    out = Preprocessing("standard3D").fit(array).apply(image, slice(0, 10))
    np.testing.assert_allclose(out, (image - image.mean()) / image.std(), atol=2e-6)
    out = Preprocessing("symmetric_rescale").fit(array).apply(image, slice(0, 10))
    assert (out.min(), out.max()) == (-1, 1)
    assert Preprocessing("none").apply(image, slice(0, 10)).dtype == np.float32


def test_channels_are_apart(image):
    both = np.stack([image, image // 2 + 7])
    out = Preprocessing("standard3D").fit(both).apply(both, slice(0, 10))
    np.testing.assert_allclose(out.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((1, 2, 3)), 1, atol=1e-5)


def test_constant_slice_is_zero(image):
    image[4] = 9
    assert not Preprocessing("standard2D").fit(image).apply(image, slice(0, 10))[4].any()


def test_dictionary_keeps_every_bit(image):
    fitted = Preprocessing("standard2D").fit(image)
    again = Preprocessing.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    assert again.fitted
    assert not Preprocessing.from_dict({"rule": "standard2D"}).fitted


def test_errors(image):
    with pytest.raises(ValueError, match="unknown preprocessing 'zscore'"):
        Preprocessing("zscore")
    with pytest.raises(ValueError, match="call fit"):
        Preprocessing("standard2D").apply(image, slice(0, 10))
