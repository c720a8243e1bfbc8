"""The half of a plan that decides time and memory but never a bit.

It may differ from worker to worker and from run to run: results are `Arithmetic`'s business.
"""

from dataclasses import dataclass

STEPS_AHEAD = 3
"""Steps that may be queued behind the one that is under way. A granule of whole steps ends with as
many queued: enough to bridge the milliseconds until Dask starts the next."""


@dataclass(frozen=True)
class Execution:
    """How the passes of a training step run.

    Attributes
    ----------
    recomputed
        Conv edge groups whose input spectrum goes block by block in the forward pass and is made
        again from the map for the kernel gradient; all others keep it.
    prompt
        The backward pass goes layer by layer, the kernel gradients of each before its input
        gradient, and kernel spectra of the next step come last, so that few spectra are there at a
        time; else all these fill gaps, which keeps many threads busy.
    steps_ahead
        Steps that may be queued behind the one that is under way.
    """

    recomputed: frozenset[str] = frozenset()
    prompt: bool = False
    steps_ahead: int = STEPS_AHEAD

    def overlap(self, threads: int) -> int:
        """Patches of a batch whose spectra may be there at a time: the next one waits until the
        kernel gradients of the first are done. Without gaps to fill they would all pile up."""
        return 1 if self.prompt else threads + 1


DEFAULT = Execution()
"""Everything is kept, kernel gradients fill gaps."""
