"""PyTorch's side of `convolution.py`: one layer at a time, on one thread.

CPU time, as on the other side: of a busy machine it tells more than what the clock says.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch  # type: ignore[import-not-found,unused-ignore]
from contender import serve
from torch import Tensor
from torch.nn import functional
from torch_network import LAYOUTS

KINDS = ("forward", "update")


class Layer:
    """A convolution, max-filter or max-pooling in one layout, with its maps.

    An update is a forward and a backward pass and, of a convolution, SGD with momentum. The first
    layer of a network, with one input channel, needs no gradient of its input.
    """

    def __init__(self, layer: dict[str, Any], layout: str, batch: int) -> None:
        flat = layout.startswith("flat")
        axes = slice(1, 3) if flat else slice(0, 3)
        window, dilation = layer["window"][axes], layer["dilation"][axes]
        into, out = layer["channels"]

        def tensor(*shape: int) -> Tensor:
            return torch.randn(shape).contiguous(memory_format=LAYOUTS[layout])

        self._x = tensor(batch, into, *layer["input"][axes])
        self._g = tensor(batch, out, *layer["output"][axes])
        kernels: list[Tensor] = []
        if layer["kind"] == "conv":
            kernels = [tensor(out, into, *window).requires_grad_()]
            convolve = functional.conv2d if flat else functional.conv3d
            self._apply: Callable[[Tensor], Tensor] = partial(
                convolve, weight=kernels[0], dilation=dilation
            )
        else:
            stride = 1 if layer["kind"] == "max_filter" else window
            pool = functional.max_pool2d if flat else functional.max_pool3d
            self._apply = partial(pool, kernel_size=window, stride=stride, dilation=dilation)
        self._x.requires_grad_(into > 1 or not kernels)
        self._sgd = torch.optim.SGD(kernels, 1e-12, 0.9, fused=True) if kernels else None

    def forward(self) -> None:
        with torch.inference_mode():
            self._apply(self._x)

    def update(self) -> None:
        self._x.grad = None
        self._apply(self._x).backward(self._g)
        if self._sgd is not None:
            self._sgd.step()
            self._sgd.zero_grad()


class Side:
    """What `convolution.py` asks for."""

    def layer(self, layer: dict[str, Any]) -> dict[str, str]:
        """The fastest layout for each kind of run."""
        flat = layer["window"][0] == layer["input"][0] == 1
        layouts = [name for name in LAYOUTS if flat or not name.startswith("flat")]
        layers = {name: Layer(layer, name, 1) for name in layouts}
        self._description, self._best = layer, {}
        names = {}
        for kind in KINDS:
            steps = {name: getattr(made, kind) for name, made in layers.items()}
            taken = {name: min(_seconds(step, 1) for _ in range(2)) for name, step in steps.items()}
            names[kind] = min(taken, key=taken.__getitem__)
            self._best[kind] = steps[names[kind]]
        self._names = names
        return names

    def run(self, kind: str, count: int) -> float:
        """Seconds of one of `count`."""
        return _seconds(self._best[kind], count)

    def batch_of_two(self, kind: str, count: int) -> float:
        """Seconds of one patch of a batch of two."""
        step = getattr(Layer(self._description, self._names[kind], 2), kind)
        step()
        return min(_seconds(step, count) for _ in range(3)) / 2


def _seconds(step: Callable[[], None], count: int) -> float:
    begin = time.process_time()
    for _ in range(count):
        step()
    return (time.process_time() - begin) / count


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    side = Side()
    serve({"layer": side.layer, "run": side.run, "batch_of_two": side.batch_of_two})


if __name__ == "__main__":
    main()
