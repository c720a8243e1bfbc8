"""What the original ZNN took, and PyTorch beside it, measured once on another machine.

Two threads of a 2-core AVX-512 machine; seconds of an update and of a forward pass with kernel
spectra at hand, for the output patches of `networks.PATCHES`. Seconds of two machines are not
compared: what is used is how much slower or faster ZNN was than PyTorch there.
"""

from typing import NamedTuple


class Mark(NamedTuple):
    """Seconds."""

    znn_update: float
    znn_forward: float
    torch_update: float
    torch_forward: float


GOALS = {
    "slide_4L_w16_k5": 3.0,
    "wide4_w40_k5_cmcmcc": 5.0,
    "bench_3d_3": 2.0,
    "bench_3d_5": 5.0,
    "bench_3d_7": 8.0,
}
"""Times as fast as PyTorch, by the kernels that most of the work is in; all others must be 1."""

MARKS = {
    "slide_3L_w5_k5": Mark(0.0085, 0.0018, 0.0060, 0.0011),
    "slide_3L_w15_k5": Mark(0.032, 0.0052, 0.0123, 0.0032),
    "slide_3L_w10_k7": Mark(0.027, 0.0046, 0.031, 0.0072),
    "slide_4L_w16_k5": Mark(0.063, 0.0081, 0.017, 0.005),
    "wide4_w40_k5_cmcmcc": Mark(4.08, 0.41, 2.33, 0.51),
    "bench_3d_3": Mark(0.093, 0.034, 0.043, 0.020),
    "bench_3d_5": Mark(0.95, 0.20, 0.54, 0.24),
    "bench_3d_7": Mark(4.38, 1.25, 3.37, 1.29),
    "bench_2d_10": Mark(0.65, 0.089, 0.36, 0.17),
    "srini2d": Mark(0.058, 0.0093, 0.024, 0.0047),
    "N4_relu": Mark(2.41, 0.23, 0.23, 0.072),
    "VD2D": Mark(2.62, 0.24, 0.25, 0.11),
    "VD2D3D": Mark(5.70, 0.56, 0.42, 0.18),
}
