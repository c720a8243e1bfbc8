"""One update as a plain loop over the passes' functions: no engine, no scheduler, no Dask.

The strictest baseline there is on one thread: the same arithmetic, in the order of the typed tasks,
on a patch that is there already.
"""

import numpy as np

from znn_dask.kernels import memory
from znn_dask.kernels.losses import loss as find_loss
from znn_dask.kernels.update import sgd_step, sgd_step_biases
from znn_dask.network import Network
from znn_dask.taskgraph import passes
from znn_dask.taskgraph.arithmetic import Arithmetic
from znn_dask.taskgraph.cost import TaskCost
from znn_dask.taskgraph.fixed import FixedPatch
from znn_dask.taskgraph.layers import compile_layers
from znn_dask.taskgraph.passes import Tape
from znn_dask.taskgraph.state import Parameters, State, UpdateRule
from znn_dask.taskgraph.tasks import TaskId, expand


class BareLoop:
    """Updates of one network on one patch, one after the other on the calling thread."""

    def __init__(
        self,
        network: Network,
        arithmetic: Arithmetic,
        loss: str,
        patch: FixedPatch,
        parameters: Parameters,
        rule: UpdateRule,
    ) -> None:
        self.layers = compile_layers(network, arithmetic)
        self.loss = find_loss(loss)
        self.patch = patch
        self.state = State.from_parameters(network, parameters, dtype=arithmetic.dtype)
        for edge, convolution in self.layers.convolutions.items():
            if self.layers.transformed(edge):
                spectrum = self.state.spectra[edge] = convolution.allocate_kernel_spectrum()
                whole = slice(0, self.state.kernels[edge].shape[3])
                convolution.kernel_spectrum(self.state.kernels[edge], whole, spectrum)
        self.factors = (rule.eta, rule.momentum, rule.weight_decay, rule.scale)
        self.order: list[TaskId] = [task.id for task in expand(self.layers, TaskCost(self.layers))]

    def update(self) -> float:
        """One update; its loss."""
        layers, old = self.layers, self.state
        tape = Tape((old.step, 0), ("dropout", old.step))
        gradients: dict[tuple[str, int], np.ndarray] = {}
        new = State(
            old.step + 1,
            *(
                {name: memory.empty(values.shape, values.dtype) for name, values in arrays.items()}
                for arrays in (old.kernels, old.velocities, old.biases, old.bias_velocities)
            ),
            old.nbytes,
            {name: memory.empty(v.shape, v.dtype) for name, v in old.spectra.items()},
        )
        value = 0.0
        for kind, layer, block in self.order:
            if kind == "load":
                tape.maps.update(self.patch.inputs)
            elif kind == "forward":
                passes.forward_block(layers, old, tape, layer, block)
            elif kind == "loss":
                for node in layers.network.outputs:
                    result = self.loss(tape.maps[node.name], self.patch.targets[node.name], None)
                    tape.output_gradients[node.name] = result.gradient
                    value += result.value
            elif kind == "backward":
                passes.backward_block(layers, old, tape, layer, block)
            elif kind == "kernel_gradient":
                channels = layers.channel_blocks[layer][block]
                gradients[layer, block] = passes.kernel_gradient(layers, tape, layer, channels)
            elif kind == "bias_gradient":
                gradients[layer, 0] = passes.sum_bias_gradient(layers, tape, layer)
            elif kind == "bias_update":
                new.biases[layer], new.bias_velocities[layer] = sgd_step_biases(
                    *(old.biases[layer], old.bias_velocities[layer], gradients[layer, 0]),
                    *self.factors,
                )
            elif kind == "update":
                at = (..., layers.channel_blocks[layer][block], slice(None))
                new.kernels[layer][at], new.velocities[layer][at] = sgd_step(
                    *(old.kernels[layer][at], old.velocities[layer][at]),
                    *(gradients[layer, block], *self.factors),
                )
            elif kind == "kernel_spectrum":
                channels = layers.channel_blocks[layer][block]
                passes.kernel_spectrum(layers, new, layer, channels)
        self.state = new
        return value
