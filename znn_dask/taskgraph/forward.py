"""The forward pass alone, for prediction: in the calling thread, or as typed tasks of an engine.

Several patches may be under way in one engine: their tasks share its threads, the earlier patch's
first, and those of the next fill the gaps that a layer's end leaves. So every thread is busy while
little more than one patch is in memory, and the last patches too are shared among all threads.
"""

import functools
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from znn_dask.kernels.denormals import denormals_flushed
from znn_dask.kernels.geometry import Triple
from znn_dask.kernels.memory import aligned
from znn_dask.network import Network
from znn_dask.network.geometry import show
from znn_dask.taskgraph import passes
from znn_dask.taskgraph.arithmetic import Arithmetic
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.cost import TaskCost
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.layers import Layers, compile_layers
from znn_dask.taskgraph.rule import Job, Priority
from znn_dask.taskgraph.state import Parameters, State, check_parameters
from znn_dask.taskgraph.steps import Step, remaining_paths
from znn_dask.taskgraph.tasks import LOAD, Task, TaskId, expand


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
        self._ready: _Compiled | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        arithmetic = self.arithmetic
        content = (self.network, self.parameters, arithmetic.output_size, arithmetic.dtype)
        return type(self), (*content, arithmetic)

    def __repr__(self) -> str:
        needs = ", ".join(
            f"{name} {show(size)}"
            for name, size in self.network.input_sizes(self.arithmetic.output_size).items()
        )
        gives = ", ".join(f"{node.name} ({node.size} maps)" for node in self.network.outputs)
        size, dtype = show(self.arithmetic.output_size), self.arithmetic.dtype
        return f"ForwardPass: {needs} -> {gives} {size}, {dtype}"

    def _repr_html_(self) -> str | None:
        from znn_dask.display.network import forward_html

        return forward_html(self)

    @denormals_flushed()  # as the engine's threads do
    def __call__(
        self,
        inputs: Mapping[str, np.ndarray],
        engine: Engine | None = None,
        priority: Priority = (0,),
    ) -> dict[str, np.ndarray]:
        """Outputs {node group: (z, y, x, c)} of input maps {node group: (z, y, x, c)}.

        The same bits with and without an engine.

        Parameters
        ----------
        engine
            Whose threads compute; the calling thread when not given.
        priority
            Place of this patch among those under way in the engine: lower ones go first.

        Raises
        ------
        ValueError
            If an input is missing or has another shape than the network needs.
        TaskError
            If a task failed in the engine; it names the layer.
        """
        ready = self._compiled()
        patch = _Patch(ready, self._tape(ready.layers, inputs, priority))
        if engine is None:
            for task in ready.tasks:
                patch.run(task.id)
        else:
            jobs: dict[TaskId, Job] = {}
            for rank, task in enumerate(ready.tasks):
                needs = [jobs[need] for need in task.needs]
                run = functools.partial(patch.run, task.id)
                jobs[task.id] = Job(task.id, 1, (*priority, rank), needs, run)
            engine.submit(jobs.values())
            engine.wait(jobs.values())
        return {node.name: patch.tape.maps[node.name] for node in self.network.outputs}

    def _tape(
        self, layers: Layers, inputs: Mapping[str, np.ndarray], priority: Priority
    ) -> passes.Tape:
        tape = passes.Tape(priority, training=False)
        for node in self.network.inputs:
            shape = (*layers.sizes[node.name], node.size)
            given = inputs.get(node.name)
            if given is None or given.shape != shape:
                found = "nothing" if given is None else str(given.shape)
                raise ValueError(f"input {node.name!r} must have shape {shape}, found {found}")
            tape.maps[node.name] = aligned(given.astype(self.arithmetic.dtype, copy=False))
        return tape

    def _compiled(self) -> "_Compiled":
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
                self._ready = _Compiled(layers, state)
            return self._ready


def forward_tasks(layers: Layers, cost: TaskCost) -> tuple[Task, ...]:
    """The typed tasks of a forward pass over a patch that is there, with the seconds of `cost`.

    In the order in which an engine prefers them: the longest remaining path first.
    """
    tasks = expand(layers, cost, training=False)
    forward = [task for task in tasks if task.id.kind == "forward"]
    step = Step([replace(t, needs=tuple(n for n in t.needs if n != LOAD)) for t in forward], 1, 0.0)
    paths = remaining_paths(step)
    return tuple(step.tasks[i] for i in sorted(range(len(paths)), key=lambda i: -paths[i]))


class _Compiled:
    """What all patches of a process share: layers, kernel spectra, typed tasks."""

    def __init__(self, layers: Layers, state: State) -> None:
        self.layers = layers
        self.state = state
        self.tasks = forward_tasks(layers, TaskCost(layers))
        self.sources = {
            node.name: tuple({edge.input for edge in layers.network.edges_into(node.name)})
            for node in layers.network.nodes
        }
        # Blocks that read each map: when all are done, it goes.
        self.readers = dict.fromkeys(self.sources, 0)
        for task in self.tasks:
            for source in self.sources[task.id.layer]:
                self.readers[source] += 1


class _Patch:
    """One patch on its way: its tape, and how many blocks still read each map."""

    def __init__(self, ready: _Compiled, tape: passes.Tape) -> None:
        self.tape = tape
        self._ready = ready
        self._readers = dict(ready.readers)

    def run(self, task: TaskId) -> None:
        """Compute one block, and drop the maps that nothing reads any more."""
        node, b = task.layer, task.block
        passes.forward_block(self._ready.layers, self._ready.state, self.tape, node, b)
        for edge in self._ready.layers.network.edges_into(node):
            self.tape.residues.pop((edge.name, b), None)
        self.tape.residues.pop((node, b), None)  # of a maxout
        with self.tape.lock:
            for source in self._ready.sources[node]:
                self._readers[source] -= 1
                if not self._readers[source]:
                    del self.tape.maps[source]
