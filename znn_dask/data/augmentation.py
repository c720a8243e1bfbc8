"""Random flips and the x-y transpose, in ZNN's order."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from znn_dask.kernels.geometry import Triple


@dataclass(frozen=True)
class Variant:
    """One way to look at a patch: flip the chosen axes (z, y, x), then maybe swap y and x."""

    flips: tuple[bool, bool, bool] = (False, False, False)
    transpose: bool = False

    def source(self, size: Triple) -> Triple:
        """Shape (z,y,x) to read so that the result has shape `size`."""
        return (size[0], size[2], size[1]) if self.transpose else size

    def __call__(self, block: NDArray[Any]) -> NDArray[Any]:
        """A view of `block` (..., z, y, x), flipped and then transposed."""
        z, y, x = (slice(None, None, -1 if f else 1) for f in self.flips)
        view = block[..., z, y, x]
        return view.swapaxes(-1, -2) if self.transpose else view


@dataclass(frozen=True)
class Augmentation:
    """Which of the changes are drawn, each with probability 1/2.

    Switch off what the specimen does not allow: `transpose` where y and x differ in resolution.
    """

    flips: tuple[bool, bool, bool] = (True, True, True)
    transpose: bool = True

    def draw(self, rng: np.random.Generator) -> Variant:
        """One variant; always takes four numbers, so switching one off leaves the others."""
        z, y, x, swap = (bool(v) for v in rng.random(4) > 0.5)
        allowed = self.flips
        return Variant(
            (z and allowed[0], y and allowed[1], x and allowed[2]), swap and self.transpose
        )

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Everything that may be drawn."""
        axes = [(False, True) if f else (False,) for f in self.flips]
        swaps = (False, True) if self.transpose else (False,)
        return tuple(
            Variant((z, y, x), swap) for swap in swaps for z, y, x in itertools.product(*axes)
        )


NO_AUGMENTATION = Augmentation((False, False, False), transpose=False)
