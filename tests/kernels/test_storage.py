"""Predicted bytes of what convolutions and pooling keep and use, against what they allocate."""

import numpy as np
import pytest

from znn_dask.kernels import memory, storage
from znn_dask.kernels.convolution import make_convolution
from znn_dask.kernels.geometry import Box, box_shape, whole
from znn_dask.kernels.pooling import Dropout, MaxFilter, MaxPool

SHAPES = [
    ("tiled", (24, 24, 24), (5, 5, 5), (1, 1, 1), (12, 16), (12, 12, 12)),
    ("tiled", (16, 20, 20), (3, 5, 5), (1, 2, 2), (16, 8), (8, 10, 10)),
    ("fft", (20, 20, 20), (7, 7, 7), (1, 1, 1), (8, 12), None),
    ("fft", (40, 40, 40), (1, 5, 5), (1, 1, 1), (12, 6), None),
    ("fft", (12, 40, 40), (2, 3, 3), (1, 4, 4), (6, 30), None),
    ("direct", (24, 24, 24), (3, 3, 3), (1, 1, 1), (8, 16), None),
    ("direct", (30, 30, 30), (3, 3, 3), (1, 1, 1), (40, 3), None),
    ("direct", (1, 300, 300), (1, 3, 3), (1, 1, 1), (5, 5), None),
    ("direct", (1, 90, 90), (1, 5, 5), (1, 1, 1), (12, 12), None),
]


def owner(array: np.ndarray) -> int:
    """Bytes of the memory that an array looks into."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.nbytes


class Counted:
    """Bytes that are taken from the pool, now and at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.most = 0
        counted = self

        class Loan(memory._Loan):
            def __init__(self, start, size, shape, dtype):
                super().__init__(start, size, shape, dtype)
                counted.now += size
                counted.most = max(counted.most, counted.now)

            def __del__(self):
                counted.now -= self.size
                super().__del__()

        monkeypatch.setattr(memory, "_Loan", Loan)

    def since(self) -> int:
        """Most bytes since the last call, above what is taken now."""
        most, self.most = self.most - self.now, self.now
        return most


@pytest.mark.parametrize(("algorithm", "output", "kernel", "dilation", "channels", "tile"), SHAPES)
def test_spectra(algorithm, output, kernel, dilation, channels, tile):
    size = tuple(n + (k - 1) * s for n, k, s in zip(output, kernel, dilation, strict=True))
    conv = make_convolution(algorithm, size, kernel, dilation, channels, tile=tile)
    assert storage.gradient_spectrum_bytes(conv) == owner(conv.allocate_gradient_spectrum())
    axis, step = conv.rows()
    part: Box = tuple(
        slice(0, min(step, n)) if a == axis else slice(0, n) for a, n in enumerate(output)
    )
    if conv.transforms:
        assert storage.input_spectrum_bytes(conv) == owner(conv.allocate_input_spectrum())
        assert storage.kernel_spectrum_bytes(conv) == owner(conv.allocate_kernel_spectrum())
        of_part = storage.input_spectrum_bytes(conv, part)
        assert of_part == owner(conv.allocate_input_spectrum(part))
        assert of_part <= storage.input_spectrum_bytes(conv)
    else:
        assert storage.input_spectrum_bytes(conv) == storage.kernel_spectrum_bytes(conv) == 0


@pytest.mark.parametrize(("algorithm", "output", "kernel", "dilation", "channels", "tile"), SHAPES)
def test_scratch(monkeypatch, algorithm, output, kernel, dilation, channels, tile):
    """Within a factor: the formulas are short, and what they forget must not matter."""
    size = tuple(n + (k - 1) * s for n, k, s in zip(output, kernel, dilation, strict=True))
    conv = make_convolution(algorithm, size, kernel, dilation, channels, tile=tile)
    block = whole(conv.output_size)
    x = memory.zeros((*size, channels[0]), "f4")
    w = memory.zeros((*kernel, *channels), "f4")
    X, W, G = x, w, memory.zeros((*output, channels[1]), "f4")
    if conv.transforms:
        X, W = conv.allocate_input_spectrum(), conv.allocate_kernel_spectrum()
        conv.input_spectrum(x, block, X)
        conv.kernel_spectrum(w, slice(0, channels[0]), W)
        G = conv.allocate_gradient_spectrum()
    counted = Counted(monkeypatch)

    y = conv.output(conv.forward(X, W, block), block)
    check(counted.since() + y.nbytes, storage.forward_scratch(conv, block) + y.nbytes)
    conv.gradient_spectrum(y, block, G)
    counted.since()
    dx = conv.input_gradient(G, W, block)
    check(counted.since() + dx.nbytes, storage.backward_scratch(conv, block) + dx.nbytes)
    for channel in (slice(0, channels[0]), slice(2, 4)):
        conv.kernel_gradient(X, G, channel)
        check(counted.since(), storage.kernel_gradient_scratch(conv, channel))


def check(measured: int, predicted: int) -> None:
    """Small scratch does not matter: what the pool lends in pages, and less than a megabyte."""
    assert predicted <= 2.5 * measured + (1 << 20)
    assert measured <= 1.5 * predicted + (1 << 20)


@pytest.mark.parametrize("kernel", [MaxFilter((1, 2, 2), (1, 2, 2)), MaxPool((2, 2, 2)), Dropout()])
def test_residues(kernel):
    block = whole((4, 6, 6))
    box = kernel.input_box(block, (40, 40, 40))
    x = np.zeros((*box_shape(box), 3), "f4")
    y, residue = kernel.forward(x, ("key",))
    arrays = residue if isinstance(residue, tuple) else (residue,)
    found = storage.residue_bytes(y.shape[:3], 3)
    assert found == sum(array.nbytes for array in arrays)
