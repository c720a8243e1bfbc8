"""Max-filters that compute some fragments of their output (see `network.fragments`)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from znn_dask.kernels.geometry import Box, Triple
from znn_dask.kernels.memory import empty, zeros
from znn_dask.kernels.pooling import Bytes, Floats, Key, MaxFilter

Residues = tuple[tuple[Bytes, ...], ...]


@dataclass(frozen=True)
class FragmentFilter:
    """Max-filter of `fragments` voxels side by side at every stride of `filter`.

    Fragment f holds the outputs f, f + fragments, ..: what `filter` makes of the input from its
    voxel f on. Blocks hold whole strides: they are cut at multiples of `fragments`.
    """

    filter: MaxFilter
    fragments: Triple

    def input_box(self, block: Box, input_size: Triple) -> Box:
        """Region of the input map that the output region `block` reads.

        Raises ValueError where it does not hold whole strides.
        """
        for part, count in zip(block, self.fragments, strict=True):
            if part.start % count or part.stop % count:
                raise ValueError(
                    f"block {part.start}:{part.stop} cuts through {count} fragments: "
                    "cut at multiples of them"
                )
        z, y, x = (
            slice(part.start // count, part.stop // count)
            for part, count in zip(block, self.fragments, strict=True)
        )
        box = self.filter.input_box((z, y, x), input_size)
        z, y, x = (
            slice(part.start, part.stop + count - 1)
            for part, count in zip(box, self.fragments, strict=True)
        )
        return (z, y, x)

    def forward(self, x: Floats, key: Key | None = None) -> tuple[Floats, Residues]:
        """Maxima (z, y, x, c) of the input region `x`, and of each fragment which they are."""
        parts = [self.filter.forward(x[inputs]) for inputs, _ in self._parts(x.shape)]
        size = (n * f for n, f in zip(parts[0][0].shape, self.fragments, strict=False))
        y = empty((*size, x.shape[3]), x.dtype)
        for (part, _), (_, outputs) in zip(parts, self._parts(x.shape), strict=True):
            y[outputs] = part
        return y, tuple(residue for _, residue in parts)

    def backward(self, g: Floats, residue: Residues, input_shape: Sequence[int]) -> Floats:
        """Gradient (z, y, x, c) of the input region, fragments added in their order."""
        dx = zeros(tuple(input_shape), g.dtype)
        for (inputs, outputs), chosen in zip(self._parts(input_shape), residue, strict=True):
            part = dx[inputs]
            part += self.filter.backward(g[outputs], chosen, part.shape)
        return dx

    def _parts(self, input_shape: Sequence[int]) -> Iterator[tuple[Box, Box]]:
        """Of each fragment: what it reads of the input region, and its outputs."""
        for first in product(*map(range, self.fragments)):
            z, y, x = (
                slice(f, n - count + 1 + f)
                for f, n, count in zip(first, input_shape, self.fragments, strict=False)
            )
            oz, oy, ox = (
                slice(f, None, count) for f, count in zip(first, self.fragments, strict=True)
            )
            yield (z, y, x), (oz, oy, ox)
