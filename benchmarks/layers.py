"""The layers that `convolution.py` measures, and how much faster than PyTorch each should be."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from znn_dask.kernels.geometry import Triple

_LONGEST = 3e11  # operations of an update that PyTorch does in about three seconds on one core


@dataclass(frozen=True)
class Layer:
    """A convolution or a maximum over a window (z, y, x); `output` is its output patch."""

    kind: Literal["conv", "max_filter", "max_pool"]
    channels: tuple[int, int]
    window: Triple
    dilation: Triple
    output: Triple

    @property
    def input(self) -> Triple:
        """Size of the input map."""
        sizes = zip(self.output, self.window, self.dilation, strict=True)
        if self.kind == "max_pool":
            z, y, x = (n * k for n, k, _ in sizes)
        else:
            z, y, x = (n + (k - 1) * s for n, k, s in sizes)
        return (z, y, x)

    @property
    def goal(self) -> float:
        """Times as fast as PyTorch."""
        if self.kind != "conv" or len(set(self.window)) > 1:
            return 1.0
        width, edge = min(self.channels), self.window[0]
        if edge >= 9:
            return 12.0
        if edge >= 7:
            return 8.0
        if edge >= 5:
            return 5.0 if width >= 24 else 3.0 if width >= 16 else 1.0
        return 2.0 if edge == 3 and width >= 32 else 1.0

    def to_dict(self) -> dict[str, Any]:
        """For the other side."""
        return {**vars(self), "input": self.input}

    def __str__(self) -> str:
        size, out = ("x".join(map(str, n)) for n in (self.window, self.output))
        text = f"{self.channels[0]}-{self.channels[1]}" if self.kind == "conv" else self.kind
        text += f" {size}, {out}" if self.kind == "conv" else f" {size}, {self.channels[0]}, {out}"
        if max(self.dilation) > 1:
            text += f", dilation {'x'.join(map(str, self.dilation))}"
        return text


def _cube(n: int) -> Triple:
    return (n, n, n)


def _conv(into: int, out: int, window: Triple, output: Triple, dilation: Triple) -> Layer:
    return Layer("conv", (into, out), window, dilation, output)


_WIDTHS = {3: (32, 40, 80), 5: (16, 24, 40, 80), 7: (40,), 9: (24,), 11: (16,)}


def _large(
    edges: tuple[int, ...], dilations: tuple[int, ...], outputs: tuple[int, ...]
) -> Iterator[Layer]:
    for edge in edges:
        for width in _WIDTHS[edge]:
            for dilation in dilations:
                for output in outputs:
                    if 6 * edge**3 * output**3 * width**2 <= _LONGEST:
                        yield _conv(width, width, _cube(edge), _cube(output), _cube(dilation))


def _small() -> Iterator[Layer]:
    for width in (5, 16, 24, 40, 80):
        yield _conv(width, width, (1, 3, 3), (1, 64, 64), (1, 1, 1))
        yield _conv(width, width, (1, 3, 3), (1, 100, 100), (1, 4, 4))
        yield _conv(width, width, (1, 4, 4), (1, 100, 100), (1, 1, 1))
        if width not in _WIDTHS[3]:
            yield _conv(width, width, (3, 3, 3), (16, 16, 16), (1, 1, 1))
        yield _conv(width, width, (1, 1, 1), (1, 100, 100), (1, 1, 1))
        yield _conv(width, width, (1, 1, 1), (16, 16, 16), (1, 1, 1))
    for width in (5, 24, 48):
        yield _conv(1, width, (1, 3, 3), (1, 100, 100), (1, 1, 1))
        yield _conv(1, width, (1, 4, 4), (1, 100, 100), (1, 1, 1))
        yield _conv(1, width, (3, 3, 3), (24, 24, 24), (1, 1, 1))
    yield _conv(1, 5, (5, 5, 5), (24, 24, 24), (1, 1, 1))
    yield _conv(1, 40, (5, 5, 5), (24, 24, 24), (1, 1, 1))
    yield _conv(48, 200, (1, 1, 1), (1, 100, 100), (1, 1, 1))
    yield _conv(200, 2, (1, 1, 1), (1, 100, 100), (1, 1, 1))


def _pool() -> Iterator[Layer]:
    for window, output, width in (
        ((1, 2, 2), (1, 100, 100), 24),
        ((1, 3, 3), (1, 100, 100), 24),
        ((2, 2, 2), (24, 24, 24), 40),
        ((3, 3, 3), (24, 24, 24), 16),
    ):
        for dilation in (1, 2, 4):
            spread = (dilation if window[0] > 1 else 1, dilation, dilation)
            yield Layer("max_filter", (width, width), window, spread, output)
        yield Layer("max_pool", (width, width), window, (1, 1, 1), output)


SECTIONS = {
    "large": tuple(_large((5, 7, 9, 11), (1,), (16, 32, 48))),
    "three": tuple(_large((3,), (1, 2, 4), (16, 32, 48))),
    "dilated": tuple(_large((5, 7, 9, 11), (2, 4), (16, 32))),
    "small": tuple(_small()),
    "pool": tuple(_pool()),
}
"""Name -> layers."""
