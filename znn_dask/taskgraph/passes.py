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
from znn_dask.kernels.transfer import bias_gradient
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
    patch
        What was loaded.
    losses
        Filled by the loss task.
    lock
        Held while an array is allocated.
    """

    priority: Priority
    key: Key | None = None
    training: bool = True
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


def _room(
    tape: Tape, arrays: dict[str, np.ndarray], name: str, allocate: Callable[[], np.ndarray]
) -> np.ndarray:
    """The array of that name; the first block that needs it allocates it."""
    with tape.lock:
        if name not in arrays:
            arrays[name] = allocate()
        return arrays[name]


def _map(layers: Layers, tape: Tape, node: str) -> np.ndarray:
    shape = (*layers.sizes[node], layers.network.node(node).size)
    return _room(tape, tape.maps, node, lambda: memory.empty(shape, layers.arithmetic.dtype))


def _gradient_spectrum(layers: Layers, tape: Tape, edge: str) -> np.ndarray:
    """The spectrum of the gradient that the edge sends back, which it may share."""
    owner = layers.spectrum_owners[edge]
    allocate = layers.convolutions[owner].allocate_gradient_spectrum
    return _room(tape, tape.gradient_spectra, owner, allocate)


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
        else:
            kernel_op = layers.kernels[edge.name]
            box = kernel_op.input_box(block, layers.sizes[edge.input])
            y, residue = kernel_op.forward(x[box], _dropout_key(tape, edge.name, b))
            tape.residues[edge.name, b] = residue
            terms.append(y)
    terms = [layers.convolutions[e].output(p, block) for e, p in products.values()] + terms
    if group.type == "maxout":
        y, tape.residues[node, b] = maxout(terms)
    else:
        y = _sum(terms)
    if layers.has_bias(node):
        y = layers.transfers[node].forward(y, state.biases[node])
    _map(layers, tape, node)[block] = y


def backward_block(layers: Layers, state: State, tape: Tape, node: str, b: int) -> None:
    """One block of the gradient of a node group, and what its edges pass back."""
    block = layers.blocks[node][b]
    g = _output_gradient(layers, tape, node, block)
    if layers.has_bias(node):
        g = layers.transfers[node].backward(g, tape.maps[node][block], out=g)
        tape.bias_gradients[node, b] = bias_gradient(g)
    for i, edge in enumerate(layers.network.edges_into(node)):
        onward = edge.input in layers.trained
        if edge.name in layers.convolutions:
            convolution = layers.convolutions[edge.name]
            G = _gradient_spectrum(layers, tape, edge.name)
            if layers.spectrum_owners[edge.name] == edge.name:  # the owner comes first
                convolution.gradient_spectrum(g, block, G)
            if onward:
                kernel = _kernel(layers, state, edge.name)
                tape.slabs[edge.name, b] = convolution.input_gradient(G, kernel, block)
        elif onward:
            kernel_op = layers.kernels[edge.name]
            box = layers.input_box(edge.name, block)
            part = g
            if layers.network.node(node).type == "maxout":
                part = maxout_backward(g, tape.residues[node, b], i)
            residue = tape.residues.pop((edge.name, b))
            tape.slabs[edge.name, b] = kernel_op.backward(part, residue, _shape(box, part))


def kernel_gradient(layers: Layers, tape: Tape, edge: str, channels: slice) -> np.ndarray:
    """dE/d(kernel) (kz, ky, kx, block of in, out)."""
    x = tape.maps[layers.network.edge(edge).input]
    X = tape.spectra.get(edge, x)  # a direct convolution's spectrum is the map itself
    G = _gradient_spectrum(layers, tape, edge)
    return layers.convolutions[edge].kernel_gradient(X, G, channels)


def sum_bias_gradient(layers: Layers, tape: Tape, node: str) -> np.ndarray:
    """dE/d(biases) (n,), blocks added in their order."""
    blocks = range(len(layers.blocks[node]))
    return _sum([tape.bias_gradients[node, b].copy() for b in blocks])


def kernel_spectrum(layers: Layers, state: State, edge: str, channels: slice) -> None:
    """Fill a block of input channels of the edge's kernel spectrum."""
    layers.convolutions[edge].kernel_spectrum(state.kernels[edge], channels, state.spectra[edge])


def _input_spectrum(
    convolution: Convolution, tape: Tape, edge: str, x: np.ndarray, block: Box
) -> np.ndarray:
    """Spectrum of what the block reads: of the whole map if a backward pass follows."""
    if not convolution.transforms:
        return x
    if tape.training:
        X = _room(tape, tape.spectra, edge, convolution.allocate_input_spectrum)
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
    """dE/d(map) over a block: from the loss, or the sum over edges and their blocks in order."""
    channels = layers.network.node(node).size
    edges = layers.network.edges_from(node)
    g = memory.empty((*box_shape(block), channels), layers.arithmetic.dtype)
    if not edges:
        g[...] = tape.output_gradients[node][block]
        return g
    g[...] = 0
    for edge in edges:
        for i, target in enumerate(layers.blocks[edge.output]):
            box = layers.input_box(edge.name, target)
            common = intersect(box, block)
            if common is not None:
                slab = tape.slabs[edge.name, i]
                g[relative(common, block)] += slab[relative(common, box)]
    return g


def _shape(box: Box, part: np.ndarray) -> tuple[int, ...]:
    return (*box_shape(box), part.shape[-1])
