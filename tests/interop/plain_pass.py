"""A whole training step by plain loops in float64, to compare with ZNN's own results.

Convolutions are loops over kernel taps; everything else is the kernels under test.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from znn_dask.kernels.layout import kernels_from_znn, kernels_to_znn
from znn_dask.kernels.pooling import MaxFilter
from znn_dask.kernels.transfer import transfer
from znn_dask.kernels.update import sgd_step, sgd_step_biases
from znn_dask.network.graph import Network

Arrays = Mapping[str, np.ndarray]
Triple = tuple[int, int, int]


class PlainPass:
    """Forward pass, backward pass and update of a network of conv and max_filter edges.

    Parameters, momenta and gradients go in and out in ZNN's layout, maps are (z, y, x, c).
    """

    def __init__(self, net: Network, parameters: Arrays) -> None:
        self.net = net
        self.values = {name: _inside(array) for name, array in parameters.items()}
        self.velocities = {name: np.zeros_like(array) for name, array in self.values.items()}

    def set_momenta(self, momenta: Arrays) -> None:
        self.velocities = {name: _inside(array) for name, array in momenta.items()}

    def parameter(self, name: str) -> np.ndarray:
        return _outside(self.values[name])

    def momentum(self, name: str) -> np.ndarray:
        return _outside(self.velocities[name])

    def forward(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """Maps of all node groups."""
        self.maps = dict(inputs)
        self.chosen = {}
        for node in self.net.topological:
            if node.type == "input":
                continue
            y = sum(self._edge(edge) for edge in self.net.edges_into(node.name))
            if node.type == "transfer":
                function = transfer(node.function, node.function_args)
                y = function.forward(y, self.values[f"{node.name}.biases"])
            self.maps[node.name] = y
        return self.maps

    def backward(self, gradients: Arrays) -> dict[str, np.ndarray]:
        """Gradients of all parameters, from those of the output maps."""
        of_map: dict[str, np.ndarray] = defaultdict(float, gradients)
        found = {}
        for node in reversed(self.net.topological):
            if node.type == "input":
                continue
            g = of_map[node.name]
            if node.type == "transfer":
                function = transfer(node.function, node.function_args)
                g = np.array(g)
                found[f"{node.name}.biases"] = function.backward(g, self.maps[node.name])
            for edge in self.net.edges_into(node.name):
                x, dilation = self.maps[edge.input], self.net.dilation(edge.input)
                if edge.type == "max_filter":
                    kernel = MaxFilter(edge.size, dilation)
                    dx = kernel.backward(g, self.chosen[edge.name], x.shape)
                else:
                    w = self.values[f"{edge.name}.filters"]
                    dx, dw = np.zeros_like(x), np.zeros_like(w)
                    for tap, box in _taps(edge.size, dilation, g.shape[:3]):
                        dx[box] += g @ w[tap].T
                        dw[tap] = np.tensordot(x[box], g, axes=((0, 1, 2), (0, 1, 2)))
                    found[f"{edge.name}.filters"] = dw
                of_map[edge.input] = of_map[edge.input] + dx
        return {name: _outside(gradient) for name, gradient in found.items()}

    def update(self, gradients: Arrays, eta: float, momentum: float, decay: float) -> None:
        output = self.net.outputs[0].name
        scale = 1 / float(np.prod(self.maps[output].shape[:3]))
        for name, gradient in gradients.items():
            step = sgd_step if name.endswith(".filters") else sgd_step_biases
            self.values[name], self.velocities[name] = step(
                *(self.values[name], self.velocities[name], _inside(gradient)),
                *(eta, momentum, decay, scale),
            )

    def _edge(self, edge) -> np.ndarray:
        x, dilation = self.maps[edge.input], self.net.dilation(edge.input)
        if edge.type == "max_filter":
            y, self.chosen[edge.name] = MaxFilter(edge.size, dilation).forward(x)
            return y
        w = self.values[f"{edge.name}.filters"]
        spans = zip(x.shape[:3], edge.size, dilation, strict=True)
        y = np.zeros((*(n - (k - 1) * s for n, k, s in spans), w.shape[4]))
        for tap, box in _taps(edge.size, dilation, y.shape[:3]):
            y += x[box] @ w[tap]
        return y


def _taps(kernel: Triple, dilation: Triple, size: Triple) -> Iterator[tuple[Triple, tuple]]:
    """Each kernel tap with the part of the input it multiplies: a true convolution, so flipped."""
    for position in np.ndindex(*kernel):
        offset = [d * s for d, s in zip(position, dilation, strict=True)]
        tap = tuple(k - 1 - d for k, d in zip(kernel, position, strict=True))
        yield tap, tuple(slice(o, o + n) for o, n in zip(offset, size, strict=True))


def _inside(array: np.ndarray) -> np.ndarray:
    return kernels_from_znn(array, np.float64) if array.ndim == 5 else array.astype(np.float64)


def _outside(array: np.ndarray) -> np.ndarray:
    return kernels_to_znn(array) if array.ndim == 5 else array
