"""The half of a plan that decides time and memory but never a bit.

It may differ from worker to worker and from run to run; what is computed is `Arithmetic`'s business.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """How the passes of a training step run.

    Attributes
    ----------
    recomputed
        Conv edge groups whose input spectrum is dropped after the forward pass and made again from
        the map for the kernel gradient; all others keep it.
    prompt
        The kernel gradients of a layer come before the backward pass goes on below it, so that
        spectra wait for nothing; else they fill gaps, which keeps many threads busy.
    steps_ahead
        Steps that may be under way at once within one granule, and when it ends: enough to bridge
        the milliseconds until Dask starts the next.
    """

    recomputed: frozenset[str] = frozenset()
    prompt: bool = False
    steps_ahead: int = 3


DEFAULT = Execution()
"""Everything is kept, kernel gradients fill gaps."""
