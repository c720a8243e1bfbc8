"""What decides the bits of a computation besides our own code: libraries and processor features."""

import platform
from collections.abc import Mapping
from importlib.metadata import version

import llvmlite.binding as llvm
import numpy as np
import pyfftw
import threadpoolctl

Fingerprint = dict[str, str]


def library_fingerprint() -> Fingerprint:
    """Versions and kernel families of this process, as sorted {name: text}.

    Two processes with equal fingerprints give equal bits for equal work: ``blas`` names numpy's
    BLAS with the kernel family it picked for this processor, ``compiler`` what our own kernels are
    compiled with and for, ``simd`` the instruction sets that numpy's own loops dispatch on,
    ``fftw_alignment`` those that FFTW looks for.
    """
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    return {
        "blas": _blas(),
        "compiler": f"llvmlite {version('llvmlite')} for {llvm.get_host_cpu_name()}",
        "fftw_alignment": str(pyfftw.simd_alignment),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "pyfftw": version("pyfftw"),
        "simd": " ".join([*simd.get("baseline", []), *simd.get("found", [])]),
    }


def difference(
    one: Mapping[str, str], other: Mapping[str, str], here: str = "here", there: str = "there"
) -> str | None:
    """First entry that differs, as ``name: '1' here, '2' there``; None when all are equal."""
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            return f"{name}: {one.get(name)!r} {here}, {other.get(name)!r} {there}"
    return None


def _blas() -> str:
    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    # Other packages bring a BLAS of their own, which may or may not be loaded yet: numpy's counts.
    ours = [pool for pool in found if "numpy" in pool["filepath"]] or found
    if not ours:
        return "unknown"
    pool = ours[0]
    return f"{pool['internal_api']} {pool['version']} {pool.get('architecture', 'unknown')}"
