"""What each typed task does: the arithmetic of one patch, block by block, on a tape.

A tape holds what one pass over one patch has computed so far. Every function here fills in one
block of it; which function runs when is the engine's business, and never changes a bit: each block
is written once, and every sum has its order fixed here.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from znn_dask.kernels import memory
from znn_dask.kernels.convolution import Convolution
from znn_dask.kernels.geometry import Box, box_shape, intersect, relative
from znn_dask.kernels.pooling import maxout, maxout_backward
from znn_dask.taskgraph.arrays import ArrayId, Uses
from znn_dask.taskgraph.census import TAPES
from znn_dask.taskgraph.layers import Layers
from znn_dask.taskgraph.losses import PendingLosses
from znn_dask.taskgraph.rule import Job, Priority
from znn_dask.taskgraph.state import State
from znn_dask.taskgraph.tasks import TaskId

Key = tuple[int | str, ...]


class Patch(Protocol):
    """What a pass reads: maps (z, y, x, c) keyed by node group."""

    @property
    def inputs(self) -> Mapping[str, np.ndarray]: ...
    @property
    def targets(self) -> Mapping[str, np.ndarray]: ...
    @property
    def weights(self) -> Mapping[str, np.ndarray | None]: ...


class PatchSource(Protocol):
    """Where patches come from; patch `index` is always the same patch."""

    def patch(self, index: int) -> Patch: ...


@dataclass
class Tape:
    """One patch on its way through the network.

    Attributes
    ----------
    maps
        Node group -> its map (z, y, x, c).
    spectra
        Conv edge group -> spectrum of its input map, kept for the kernel gradient.
    residues
        (edge group, block) -> what its backward pass needs (winners of a max, a dropout mask).
    output_gradients
        Output node group -> dE/d(map).
    gradient_spectra
        Conv edge group -> spectrum of the gradient of its output map, under the first of the edge
        groups that share it.
    slabs
        (edge group, block) -> dE/d(input map) over the block's input box.
    bias_gradients
        (node group, block) -> dE/d(biases).
    jobs
        The jobs of this tape.
    priority
        (step, patch): earlier passes go first.
    key
        Where dropout draws its numbers from; None switches dropout off.
    training
        Whether a backward pass follows, for which spectra are kept.
    recomputed
        Conv edge groups of which they are not.
    patch
        What was loaded.
    losses
        Filled by the loss task.
    lock
        Held while an array is allocated or dropped.
    uses
        Which tasks use which array; with it, arrays go when their last user is done.
    """

    priority: Priority
    key: Key | None = None
    training: bool = True
    recomputed: frozenset[str] = frozenset()
    patch: Patch | None = None
    losses: PendingLosses = field(default_factory=PendingLosses)
    lock: threading.Lock = field(default_factory=threading.Lock)
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    spectra: dict[str, np.ndarray] = field(default_factory=dict)
    residues: dict[tuple[str, int], Any] = field(default_factory=dict)
    output_gradients: dict[str, np.ndarray] = field(default_factory=dict)
    gradient_spectra: dict[str, np.ndarray] = field(default_factory=dict)
    slabs: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    bias_gradients: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    jobs: dict[TaskId, Job] = field(default_factory=dict)
    uses: Uses | None = None

    def __post_init__(self) -> None:
        self._left = {} if self.uses is None else dict(self.uses.counts)
        TAPES.add(self)

    def done(self, task: TaskId) -> None:
        """Drop the arrays that nobody needs now that `task` is done."""
        if self.uses is None:
            return
        gone = []  # freed when the lock is free again
        with self.lock:
            for array in self.uses.of.get(task, ()):
                self._left[array] -= 1
                if not self._left[array]:
                    gone.append(self._drop(array))

    def _drop(self, array: ArrayId) -> Any:
        kind, layer, block = array
        match kind:
            case "map":
                return self.maps.pop(layer, None)
            case "input_spectrum":
                return self.spectra.pop(layer, None)
            case "gradient_spectrum":
                return self.gradient_spectra.pop(layer, None)
            case "output_gradient":
                return self.output_gradients.pop(layer, None)
            case "residue":
                return self.residues.pop((layer, block), None)
            case "slab":
                return self.slabs.pop((layer, block), None)
            case "bias_gradient":
                return self.bias_gradients.pop((layer, block), None)
            case "patch":
                patch, self.patch = self.patch, None
                return patch
            case _:
                raise AssertionError(f"{kind} is not an array of a tape")


def room(
    lock: threading.Lock,
    arrays: dict[str, np.ndarray],
    name: str,
    allocate: Callable[[], np.ndarray],
) -> np.ndarray:
    """The array of that name; the first block that needs it allocates it."""
    with lock:
        if name not in arrays:
            arrays[name] = allocate()
        return arrays[name]


def _map(layers: Layers, tape: Tape, node: str) -> np.ndarray:
    shape = (*layers.sizes[node], layers.network.node(node).size)
    return room(tape.lock, tape.maps, node, lambda: memory.empty(shape, layers.arithmetic.dtype))


def _gradient_spectrum(layers: Layers, tape: Tape, edge: str) -> np.ndarray:
    """The spectrum of the gradient that the edge sends back, which it may share."""
    owner = layers.spectrum_owners[edge]
    allocate = layers.convolutions[owner].allocate_gradient_spectrum
    return room(tape.lock, tape.gradient_spectra, owner, allocate)


def forward_block(layers: Layers, state: State, tape: Tape, node: str, b: int) -> None:
    """One block of a node group's map from the maps that its edges read."""
    block = layers.blocks[node][b]
    group = layers.network.node(node)
    products: dict[object, tuple[str, np.ndarray]] = {}
    terms: list[np.ndarray] = []
    for edge in layers.network.edges_into(node):
        x = tape.maps[edge.input]
        if edge.name in layers.convolutions:
            convolution = layers.convolutions[edge.name]
            X = _input_spectrum(convolution, tape, edge.name, x, block)
            kernel = _kernel(layers, state, edge.name)
            _, total = products.get(convolution.signature, ("", None))
            product = convolution.forward(X, kernel, block, accumulate=total)
            products[convolution.signature] = edge.name, product
            del X, total, product  # room for the output
        else:
            kernel_op = layers.kernels[edge.name]
            box = kernel_op.input_box(block, layers.sizes[edge.input])
            y, residue = kernel_op.forward(x[box], _dropout_key(tape, edge.name, b))
            if tape.training:
                tape.residues[edge.name, b] = residue
            terms.append(y)
    outputs = []
    for signature in tuple(products):  # each product goes before the next output comes
        edge_name, product = products.pop(signature)
        outputs.append(layers.convolutions[edge_name].output(product, block))
        del product
    terms = outputs + terms
    if group.type == "maxout":
        y, winner = maxout(terms)
        if tape.training:
            tape.residues[node, b] = winner
    else:
        y = _sum(terms)
    if layers.has_bias(node):
        y = layers.transfers[node].forward(y, state.biases[node])
    if len(layers.blocks[node]) == 1:
        tape.maps[node] = y
    else:
        _map(layers, tape, node)[block] = y


def backward_block(
    layers: Layers, state: State, tape: Tape, node: str, b: int, *, prompt: bool = False
) -> None:
    """One block of the gradient of a node group, and what its edges pass back; where it is
    `prompt`, convolutions do not yet (`input_gradient`)."""
    block = layers.blocks[node][b]
    g = _output_gradient(layers, tape, node, block)
    if layers.has_bias(node):
        transfer = layers.transfers[node]
        tape.bias_gradients[node, b] = transfer.backward(g, tape.maps[node][block])
    onward: list[str] = []
    for i, edge in enumerate(layers.network.edges_into(node)):
        if edge.name in layers.convolutions:
            if layers.spectrum_owners[edge.name] == edge.name:
                if len(layers.blocks[node]) == 1 and not layers.transformed(edge.name):
                    tape.gradient_spectra[edge.name] = g
                else:
                    G = _gradient_spectrum(layers, tape, edge.name)
                    layers.convolutions[edge.name].gradient_spectrum(g, block, G)
            if edge.input in layers.trained and not prompt:
                onward.append(edge.name)
        elif edge.input in layers.trained:
            kernel_op = layers.kernels[edge.name]
            box = layers.input_box(edge.name, block)
            part = g
            if layers.network.node(node).type == "maxout":
                part = maxout_backward(g, tape.residues[node, b], i)
            residue = tape.residues[edge.name, b]
            tape.slabs[edge.name, b] = kernel_op.backward(part, residue, _shape(box, part))
            del part
    del g  # room for the slabs
    for name in onward:
        input_gradient(layers, state, tape, name, b)


def input_gradient(layers: Layers, state: State, tape: Tape, edge: str, b: int) -> None:
    """What a conv edge group passes back of block `b` of its output."""
    block = layers.blocks[layers.network.edge(edge).output][b]
    G = _gradient_spectrum(layers, tape, edge)
    kernel = _kernel(layers, state, edge)
    tape.slabs[edge, b] = layers.convolutions[edge].input_gradient(G, kernel, block)


def input_spectrum(layers: Layers, tape: Tape, edge: str, b: int) -> None:
    """Make what block `b` reads of the edge's input spectrum again, exactly as it was."""
    group, convolution = layers.network.edge(edge), layers.convolutions[edge]
    X = room(tape.lock, tape.spectra, edge, convolution.allocate_input_spectrum)
    convolution.input_spectrum(tape.maps[group.input], layers.blocks[group.output][b], X)


def kernel_gradient(layers: Layers, tape: Tape, edge: str, channels: slice) -> np.ndarray:
    """dE/d(kernel) (kz, ky, kx, block of in, out)."""
    if layers.transformed(edge):
        X = tape.spectra[edge]
    else:  # a direct convolution's spectrum is the map itself
        X = tape.maps[layers.network.edge(edge).input]
    G = _gradient_spectrum(layers, tape, edge)
    return layers.convolutions[edge].kernel_gradient(X, G, channels)


def sum_bias_gradient(layers: Layers, tape: Tape, node: str) -> np.ndarray:
    """dE/d(biases) (n,), blocks added in their order."""
    blocks = range(len(layers.blocks[node]))
    return _sum([tape.bias_gradients[node, b].copy() for b in blocks])


def kernel_spectrum(layers: Layers, state: State, edge: str, channels: slice) -> None:
    """Fill a block of input channels of the edge's kernel spectrum."""
    convolution = layers.convolutions[edge]
    W = room(state.lock, state.spectra, edge, convolution.allocate_kernel_spectrum)
    convolution.kernel_spectrum(state.kernels[edge], channels, W)


def _input_spectrum(
    convolution: Convolution, tape: Tape, edge: str, x: np.ndarray, block: Box
) -> np.ndarray:
    """Spectrum of what the block reads: of the whole map if a backward pass takes it from there."""
    if not convolution.transforms:
        return x
    if tape.training and edge not in tape.recomputed:
        X = room(tape.lock, tape.spectra, edge, convolution.allocate_input_spectrum)
    else:
        X = convolution.allocate_input_spectrum(block)
    convolution.input_spectrum(x, block, X)
    return X


def _kernel(layers: Layers, state: State, edge: str) -> np.ndarray:
    return state.spectra[edge] if layers.transformed(edge) else state.kernels[edge]


def _sum(terms: list[np.ndarray]) -> np.ndarray:
    total = terms[0]
    for term in terms[1:]:
        total = np.add(total, term, out=total)
    return total


def _dropout_key(tape: Tape, edge: str, b: int) -> Key | None:
    return None if tape.key is None else ("dropout", *tape.key, edge, b)


def _output_gradient(layers: Layers, tape: Tape, node: str, block: Box) -> np.ndarray:
    """dE/d(map) over a block: from the loss, or the sum over edges and their blocks in order.

    It may be written to: blocks do not overlap, so nobody else reads what slabs hold of this one.
    """
    channels = layers.network.node(node).size
    edges = layers.network.edges_from(node)
    if not edges:
        return memory.aligned_copy(tape.output_gradients[node][block])
    parts: list[tuple[Box, np.ndarray]] = []  # within the block
    for edge in edges:
        for i, target in enumerate(layers.blocks[edge.output]):
            box = layers.input_box(edge.name, target)
            common = intersect(box, block)
            if common is not None:
                slab = tape.slabs[edge.name, i]
                parts.append((relative(common, block), slab[relative(common, box)]))
    shape = (*box_shape(block), channels)
    first = parts[0][1] if parts else None
    if first is not None and first.shape == shape:
        g = memory.aligned(first)
        parts = parts[1:]
    else:
        g = memory.zeros(shape, layers.arithmetic.dtype)
    for within, part in parts:
        g[within] += part
    return g


def _shape(box: Box, part: np.ndarray) -> tuple[int, ...]:
    return (*box_shape(box), part.shape[-1])
