"""Random numbers are a pure function of their key."""

import itertools

import numpy as np
import pytest

from znn_dask.kernels.randomness import generator


def test_same_key_same_numbers() -> None:
    first = generator("dropout", 7, 3, 0, "layer", 2).random(5)
    generator("something else").random(100)
    np.testing.assert_array_equal(generator("dropout", 7, 3, 0, "layer", 2).random(5), first)


def test_numbers_are_the_same_for_ever() -> None:
    # a changed encoding would silently change every resumed training run
    drawn = generator("patch", 1, -2).integers(0, 1 << 30, 3)
    np.testing.assert_array_equal(drawn, [510052393, 295735399, 357656961])


def test_different_keys_differ() -> None:
    keys = [("a", 1), ("a1",), ("a", "1"), (1, "a"), ("a",), ("a", 1, 0), (1,), (-1,), (11,), ()]
    for one, other in itertools.combinations(keys, 2):
        assert generator(*one).random() != generator(*other).random(), (one, other)


def test_numpy_integers_are_integers() -> None:
    assert generator("a", np.int64(5)).random() == generator("a", 5).random()


def test_floats_are_refused() -> None:
    with pytest.raises(TypeError):
        generator("a", 1.5)  # type: ignore[arg-type]
