"""The transform as plain formulas, against numpy."""

import numpy as np
import pytest

from znn_dask.kernels.dft import Complex, dft, inverse_real_dft, real_dft

SIZES = [*range(1, 33), 35, 36, 49, 60, 64, 121]


def points(x):
    return [Complex(z.real, z.imag) for z in x]


def numbers(X):
    return np.array([z.re + 1j * z.im for z in X])


@pytest.mark.parametrize("n", SIZES)
def test_equals_numpy(n):
    rng = np.random.default_rng(n)
    x = rng.standard_normal(n) + 1j * rng.standard_normal(n)
    np.testing.assert_allclose(numbers(dft(points(x), -1)), np.fft.fft(x), atol=1e-13 * n)
    np.testing.assert_allclose(numbers(dft(points(x), 1)), n * np.fft.ifft(x), atol=1e-13 * n)


@pytest.mark.parametrize("n", SIZES)
def test_real_points_and_back(n):
    x = np.random.default_rng(n).standard_normal(n)
    X = real_dft(list(x))
    np.testing.assert_allclose(numbers(X), np.fft.rfft(x), atol=1e-13 * n)
    np.testing.assert_allclose(np.array(inverse_real_dft(X, n)) / n, x, atol=1e-13 * n)
