"""Fingerprint of libraries: complete, stable, comparable."""

import json
import subprocess
import sys

from znn_dask.cluster.fingerprint import difference, library_fingerprint


def test_fingerprint_is_text_and_stable():
    first = library_fingerprint()
    assert first == library_fingerprint()
    assert json.loads(json.dumps(first)) == first
    assert set(first) == {
        *("blas", "compiler", "fftw_alignment", "machine", "numpy", "pyfftw", "simd")
    }
    assert all(isinstance(value, str) and value for value in first.values())


def test_another_package_with_its_own_blas_does_not_change_it():
    code = (
        "from znn_dask.cluster.fingerprint import library_fingerprint\n"
        "before = library_fingerprint()\n"
        "import scipy.linalg\n"
        "assert library_fingerprint() == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_difference_names_both_values():
    here = {"blas": "openblas 0.3 SkylakeX", "numpy": "2.4.6"}
    there = {"blas": "openblas 0.3 Haswell", "numpy": "2.4.6"}
    assert difference(here, here) is None
    expected = "blas: 'openblas 0.3 SkylakeX' here, 'openblas 0.3 Haswell' there"
    assert difference(here, there) == expected
    assert difference(here, {}) == "blas: 'openblas 0.3 SkylakeX' here, None there"
