"""Losses against plain loops, finite differences, and ZNN's definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from znn_dask.kernels.losses import loss
from znn_dask.kernels.transfer import transfer

SHAPE = (2, 3, 4, 3)
NAMES = ("square", "square-square", "binomial", "softmax")


def _patch(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Outputs before forward_logistics (binomial) or outputs, and one-hot targets."""
    rng = np.random.default_rng(1)
    outputs = rng.normal(size=SHAPE)
    winner = rng.integers(0, SHAPE[-1], SHAPE[:-1])
    return outputs, np.eye(SHAPE[-1])[winner]


def _activated(name: str, x: np.ndarray) -> np.ndarray:
    function = loss(name).output_function or "linear"
    return transfer(function).forward(x.copy(), np.zeros(x.shape[-1]))


def _plain(name: str, x: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    total = 0.0
    for voxel in np.ndindex(*x.shape[:-1]):
        exponentials = [math.exp(v) for v in x[voxel]]
        for c, l in enumerate(truth[voxel]):  # noqa: E741
            d = x[voxel][c] - l
            sigmoid = 1 / (1 + math.exp(-x[voxel][c]))
            total += (
                weights[voxel][c]
                * {
                    "square": d * d,
                    "square-square": 0 if abs(d) <= 0.2 else d * d,
                    "binomial": -(l * math.log(sigmoid) + (1 - l) * math.log(1 - sigmoid)),
                    "softmax": -l * math.log(exponentials[c] / sum(exponentials)),
                }[name]
            )
    return total


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradient(name: str, weighted: bool) -> None:
    x, truth = _patch(name)
    weights = None
    if weighted:  # one weight per voxel, some of them masked
        rng = np.random.default_rng(2)
        weights = rng.uniform(0.5, 2, (*SHAPE[:-1], 1)) * (rng.random((*SHAPE[:-1], 1)) < 0.7)
    full = np.ones(SHAPE) if weights is None else np.broadcast_to(weights, SHAPE)
    result = loss(name)(_activated(name, x), truth, weights)
    assert type(result.value) is float
    assert result.value == pytest.approx(_plain(name, x, truth, full), rel=1e-12)
    h = 1e-6
    for index in np.ndindex(*SHAPE):
        if name == "square-square" and abs(abs(x[index] - truth[index]) - 0.2) < 1e-5:
            continue
        up, down = x.copy(), x.copy()
        up[index] += h
        down[index] -= h
        slope = (
            loss(name)(_activated(name, up), truth, weights).value
            - loss(name)(_activated(name, down), truth, weights).value
        ) / (2 * h)
        assert result.gradient[index] == pytest.approx(slope, rel=1e-5, abs=1e-7), index


@pytest.mark.parametrize("name", NAMES)
def test_wrong_counts_unmasked_elements(name: str) -> None:
    x, truth = _patch(name)
    outputs = _activated(name, x)
    weights = (np.random.default_rng(3).random(SHAPE) < 0.5).astype(np.float64)
    result = loss(name)(outputs, truth, weights)
    wrong = sum(
        (result.prediction[i] > 0.5) != (truth[i] > 0.5)
        for i in np.ndindex(*SHAPE)
        if weights[i] != 0
    )
    assert result.wrong == wrong
    assert type(result.wrong) is float
    assert (result.gradient[weights == 0] == 0).all()


def test_softmax_predicts_probabilities() -> None:
    x, truth = _patch("softmax")
    result = loss("softmax")(x, truth)
    np.testing.assert_allclose(result.prediction.sum(axis=-1), 1, rtol=1e-14)
    np.testing.assert_allclose(
        result.prediction, np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True), rtol=1e-13
    )
    shifted = loss("softmax")(x + 1000, truth)
    np.testing.assert_allclose(shifted.gradient, result.gradient, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binomial_is_stable_at_the_ends(dtype: type) -> None:
    p = np.array([0, 0, 1, 1, 0.5], dtype).reshape(1, 1, 5, 1)
    truth = np.array([0, 1, 0, 1, 1], dtype).reshape(1, 1, 5, 1)
    result = loss("binomial")(p, truth)
    assert math.isfinite(result.value)
    np.testing.assert_array_equal(result.gradient.ravel(), [0, -1, 1, 0, -0.5])
    assert result.gradient.dtype == dtype


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    shape=st.tuples(*[st.integers(1, 4)] * 4),
    seed=st.integers(0, 1000),
)
def test_whole_number_weight_counts_as_that_many_voxels(name, shape, seed) -> None:
    rng = np.random.default_rng(seed)
    outputs = rng.uniform(0.05, 0.95, shape)
    truth = (rng.random(shape) < 0.5).astype(np.uint8)
    once = loss(name)(outputs, truth)
    twice = loss(name)(outputs, truth, np.full((1, 1, 1, 1), 2.0))
    assert twice.value == pytest.approx(2 * once.value)
    np.testing.assert_allclose(twice.gradient, 2 * once.gradient)
    assert twice.wrong == once.wrong


def test_inputs_are_not_written_to() -> None:
    for name in NAMES:
        outputs, truth = _patch(name)
        outputs = _activated(name, outputs)
        weights = np.ones(SHAPE)
        for array in (outputs, truth, weights):
            array.flags.writeable = False
        loss(name)(outputs, truth, weights)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("square_loss", "square"),
        ("square-square_loss", "square-square"),
        ("binomial_cross_entropy", "binomial"),
        ("softmax_loss", "softmax"),
    ],
)
def test_long_names(alias: str, name: str) -> None:
    assert loss(alias) is not None
    assert loss(alias).name == name


def test_errors() -> None:
    with pytest.raises(ValueError, match="unknown loss 'hinge'; known: square"):
        loss("hinge")
    with pytest.raises(ValueError, match=r"\(1, 1, 1, 1\) and targets \(1, 1, 1, 2\) differ"):
        loss("square")(np.zeros((1, 1, 1, 1)), np.zeros((1, 1, 1, 2)))
