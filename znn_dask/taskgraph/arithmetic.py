"""The half of a plan that decides the bits: algorithms, tiles and the cuts of every sum.

It is a function of the network, the output patch and the dtype alone, never of threads, workers or
memory, so that a laptop and a cluster compute the same numbers. It travels in every checkpoint.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from znn_dask.kernels.convolution import Algorithm
from znn_dask.kernels.geometry import Triple
from znn_dask.network.geometry import show, triple

ALGORITHMS = ("auto", "direct", "fft", "tiled")


class PlanError(ValueError):
    """No plan for this request: says what was asked, and what would do."""


class Method(NamedTuple):
    """An algorithm, with the tile where it needs one; as text `direct`, `fft`, `tiled:12,12,12`."""

    algorithm: Algorithm
    tile: Triple | None = None

    def __str__(self) -> str:
        return f"{self.algorithm}:{show(self.tile)}" if self.tile else self.algorithm

    @classmethod
    def parse(cls, text: str) -> "Method":
        """From its text; PlanError for anything else."""
        name, _, edges = text.partition(":")
        parts = edges.split(",")
        if name == "tiled" and len(parts) == 3 and all(p.isdecimal() and int(p) for p in parts):
            return cls("tiled", triple(map(int, parts)))
        if name in ("direct", "fft") and name == text:
            return cls(name)  # type: ignore[arg-type]
        raise PlanError(f"{text!r} is no way to convolve; use direct, fft or tiled:z,y,x")


@dataclass(frozen=True)
class ConvolutionArithmetic:
    """How one conv edge group is computed.

    Attributes
    ----------
    algorithm
        "direct", "fft" (the whole map at once) or "tiled".
    tile
        Edge lengths (z, y, x) of the transform in voxels of the sub-grid; None unless tiled.
    channels
        Width of a block of input channels in gradients, updates and kernel spectra.
    """

    algorithm: Algorithm
    tile: Triple | None
    channels: int

    @property
    def method(self) -> Method:
        """Algorithm and tile."""
        return Method(self.algorithm, self.tile)


@dataclass(frozen=True)
class Arithmetic:
    """Everything that decides the bits of a pass.

    Attributes
    ----------
    output_size
        Output patch (z, y, x) in voxels.
    dtype
        "float32" or "float64".
    convolutions
        Conv edge group -> how it is computed.
    cuts
        Node group -> (axis, step, count): its map is computed in `count` blocks along `axis`, cut
        at multiples of `step` voxels.
    fragments
        Whether maps are computed only where the output patch reads them (`network.fragments`).
    """

    output_size: Triple
    dtype: str
    convolutions: Mapping[str, ConvolutionArithmetic]
    cuts: Mapping[str, tuple[int, int, int]]
    fragments: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Arithmetic":
        """From the values of `to_dict`, also after a trip through JSON."""
        return cls(
            output_size=triple(values["output_size"]),
            dtype=values["dtype"],
            convolutions={
                edge: ConvolutionArithmetic(
                    c["algorithm"], triple(c["tile"]) if c["tile"] else None, c["channels"]
                )
                for edge, c in values["convolutions"].items()
            },
            cuts={node: (axis, step, n) for node, (axis, step, n) in values["cuts"].items()},
            fragments=values.get("fragments", False),  # older checkpoints computed every voxel
        )

    @property
    def digest(self) -> str:
        """Short fingerprint: equal digests on equal library builds mean equal bits."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
