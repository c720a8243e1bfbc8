"""The forward pass alone, in the calling thread: for prediction, many patches at once."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from znn_dask.kernels.geometry import Triple
from znn_dask.kernels.memory import aligned
from znn_dask.network import Network
from znn_dask.taskgraph import passes
from znn_dask.taskgraph.arithmetic import Arithmetic
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.layers import Layers, compile_layers
from znn_dask.taskgraph.state import Parameters, State, check_parameters


class ForwardPass:
    """A network with its parameters, applied to input patches of one size.

    Thread-safe: any number of threads may call it, each on a patch of its own. It pickles as
    network and parameters; kernel spectra and FFT plans are made at the first call in a process.

    Parameters
    ----------
    network
        What to compute.
    parameters
        `"edge.filters"` (in, out, kz, ky, kx) and `"node.biases"` (n,).
    output_size
        Output patch (z, y, x) in voxels.
    dtype
        "float32" or "float64".
    arithmetic
        How to compute it; chosen by size when not given.

    Raises
    ------
    ParameterError, NetworkError
        If the parameters or the output size do not fit the network.
    """

    def __init__(
        self,
        network: Network,
        parameters: Parameters,
        output_size: Triple,
        dtype: str = "float32",
        arithmetic: Arithmetic | None = None,
    ) -> None:
        check_parameters(network, parameters)
        self.network = network
        self.parameters = parameters
        self.arithmetic = arithmetic or choose_arithmetic(
            network, output_size, dtype, training=False
        )
        self._lock = threading.Lock()
        self._ready: tuple[Layers, State] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        arithmetic = self.arithmetic
        content = (self.network, self.parameters, arithmetic.output_size, arithmetic.dtype)
        return type(self), (*content, arithmetic)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs {node group: (z, y, x, c)} of input maps {node group: (z, y, x, c)}.

        Raises
        ------
        ValueError
            If an input is missing or has another shape than the network needs.
        """
        layers, state = self._compiled()
        tape = passes.Tape(priority=(0,), training=False)
        for node in self.network.inputs:
            shape = (*layers.sizes[node.name], node.size)
            given = inputs.get(node.name)
            if given is None or given.shape != shape:
                found = "nothing" if given is None else str(given.shape)
                raise ValueError(f"input {node.name!r} must have shape {shape}, found {found}")
            tape.maps[node.name] = aligned(given.astype(self.arithmetic.dtype, copy=False))
        for node in self.network.topological:
            if node.type != "input":
                for b in range(len(layers.blocks[node.name])):
                    passes.forward_block(layers, state, tape, node.name, b)
                _release(layers, tape, node.name)
        return {node.name: tape.maps[node.name] for node in self.network.outputs}

    def _compiled(self) -> tuple[Layers, State]:
        with self._lock:
            if self._ready is None:
                layers = compile_layers(self.network, self.arithmetic)
                dtype = self.arithmetic.dtype
                state = State.from_parameters(self.network, self.parameters, dtype=dtype)
                for edge, convolution in layers.convolutions.items():
                    if convolution.transforms:
                        state.spectra[edge] = convolution.allocate_kernel_spectrum()
                        for channels in layers.channel_blocks[edge]:
                            passes.kernel_spectrum(layers, state, edge, channels)
                self._ready = layers, state
            return self._ready


def _release(layers: Layers, tape: passes.Tape, node: str) -> None:
    """Drop the maps that only this node group and those before it read."""
    order = [group.name for group in layers.network.topological]
    done = set(order[: order.index(node) + 1])
    for edge in layers.network.edges_into(node):
        readers = {onward.output for onward in layers.network.edges_from(edge.input)}
        if readers <= done:
            tape.maps.pop(edge.input, None)
    tape.residues.clear()
