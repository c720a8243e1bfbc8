"""PyTorch's side of `compare.py`: updates and forward passes of one network.

PyTorch is tried in every layout of its maps that it has kernels for: `channels first` and `last`,
and for networks that are flat in z also with two-dimensional convolutions.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found,unused-ignore]
from contender import resident, serve
from torch import Tensor
from torch_network import LAYOUTS, TorchNetwork, is_flat, square_loss

from znn_dask.network import Network, parse_znn

_ETA, _MOMENTUM = 1e-12, 0.9  # noise teaches nothing: stay where numbers are ordinary
_WORTH_REPEATING = 1.0  # seconds


class Training:
    """A network with its optimiser and one patch, in one layout."""

    def __init__(self, network: Network, arrays: Mapping[str, np.ndarray], layout: str) -> None:
        self._flat = layout.startswith("flat")
        self._format = LAYOUTS[layout]
        self.module = TorchNetwork(network, _part(arrays, "parameter/"), self._flat)
        self.module.to(memory_format=self._format)
        self._inputs = self._tensors(_part(arrays, "input/"))
        self._targets = self._tensors(_part(arrays, "target/"))
        self._sgd = torch.optim.SGD(self.module.parameters(), _ETA, _MOMENTUM, fused=True)

    def _tensors(self, maps: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        """Maps (c, z, y, x) as PyTorch wants them."""
        return {
            name: torch.from_numpy(values[None, :, 0] if self._flat else values[None]).contiguous(
                memory_format=self._format
            )
            for name, values in maps.items()
        }

    def outputs(self) -> dict[str, Tensor]:
        return self.module(self._inputs)

    def forward(self) -> None:
        with torch.inference_mode():
            self.outputs()

    def gradients(self) -> dict[str, Tensor]:
        """Outputs, after the gradients were added to those of the parameters."""
        outputs = self.outputs()
        square_loss(outputs, self._targets).backward()
        return outputs

    def update(self) -> None:
        self._sgd.zero_grad()
        self.gradients()
        self._sgd.step()


class Side:
    """What `compare.py` asks for."""

    def start(self, text: str, threads: int) -> None:
        """The network of this .znn text, on so many threads."""
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        self._network = parse_znn(text)
        self._idle = resident()
        self._trainings: dict[str, Training] = {}

    def layouts(self, path: str) -> dict[str, dict[str, float]]:
        """Seconds of an update and of a forward pass in each layout."""
        inputs = _part(np.load(path), "input/").values()
        flat = is_flat(self._network) and all(values.shape[1] == 1 for values in inputs)
        found: dict[str, dict[str, float]] = {"update": {}, "forward": {}}
        for layout in (name for name in LAYOUTS if flat or not name.startswith("flat")):
            self.first(path, layout)
            for kind, seconds in found.items():
                taken = self.run(kind, layout, 1)
                if taken < _WORTH_REPEATING:
                    taken = min(self.run(kind, layout, 2) for _ in range(3))
                seconds[layout] = taken
            self._trainings.clear()
        return found

    def first(self, path: str, layout: str) -> float:
        """Seconds of the first update with the arrays of this file."""
        arrays = dict(np.load(path))
        begin = time.perf_counter()
        self._training(arrays, layout).update()
        return time.perf_counter() - begin

    def _training(self, arrays: Mapping[str, np.ndarray], layout: str) -> Training:
        if layout not in self._trainings:
            self._trainings[layout] = Training(self._network, arrays, layout)
        return self._trainings[layout]

    def run(self, kind: str, layout: str, count: int) -> float:
        """Seconds of one of `count` updates or forward passes."""
        step = getattr(self._trainings[layout], kind)
        begin = time.perf_counter()
        for _ in range(count):
            step()
        return (time.perf_counter() - begin) / count

    def prepare(self, path: str, layout: str) -> None:
        """Have this layout ready."""
        self._training(dict(np.load(path)), layout)

    def memory(self) -> int:
        """Bytes above the idle process, at most."""
        return resident(peak=True) - self._idle

    def check(self, path: str, layout: str, text: str) -> dict[str, float]:
        """How far outputs and gradients are from those in the file, relative to their norm.

        `text` is the network without dropout, whose masks differ.
        """
        arrays = dict(np.load(path))
        training = Training(parse_znn(text), arrays, layout)
        outputs = training.gradients()
        ours = {name: _part(arrays, name) for name in ("output/", "gradient/")}
        theirs: dict[str, Mapping[str, np.ndarray]] = {
            "output/": {
                name: values.detach().numpy().reshape(ours["output/"][name].shape)
                for name, values in outputs.items()
            },
            "gradient/": training.module.gradients(),
        }
        return {name.rstrip("/"): _difference(ours[name], theirs[name]) for name in ours}


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _difference(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> float:
    """The largest relative difference of two arrays of one name; infinite where one is zero."""
    if ours.keys() != theirs.keys():
        raise ValueError(f"{sorted(ours)} and {sorted(theirs)} are not the same arrays")
    return max(
        float(np.linalg.norm(ours[name] - theirs[name]))
        / (float(np.linalg.norm(theirs[name])) or 1)
        for name in ours
    )


def main() -> None:
    side = Side()
    names = ("start", "layouts", "first", "run", "prepare", "memory", "check")
    functions: dict[str, Any] = {name: getattr(side, name) for name in names}
    serve(functions)


if __name__ == "__main__":
    main()
