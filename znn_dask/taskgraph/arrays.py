"""The arrays of a step: how large each is, which typed tasks make it, and which read it.

An array comes with the first task that writes to it and goes with the last that uses it. `Program`
drops arrays by this table; `footprint` predicts from it how many bytes are alive at a time::

    map, input_spectrum, residue          made by the forward pass
    output_gradient, gradient_spectrum,   made by the backward pass
      slab, bias_gradient
    kernel_gradient, kernel               made by type-2 tasks, and gone with the whole step
    kernel_spectrum                       of the step before; gone when both passes have used it
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from znn_dask.kernels import storage
from znn_dask.kernels.geometry import Box, box_shape, intersect, whole
from znn_dask.taskgraph.execution import Execution
from znn_dask.taskgraph.layers import Layers
from znn_dask.taskgraph.tasks import LOAD, LOSS, Kind, TaskId, slab_task

ArrayKind = Literal[
    "patch",
    "map",
    "input_spectrum",
    "residue",
    "output_gradient",
    "gradient_spectrum",
    "slab",
    "bias_gradient",
    "kernel_gradient",
    "kernel",
    "kernel_spectrum",
]


class ArrayId(NamedTuple):
    """Which array of a step: what it is, of which node or edge group, and the block."""

    kind: ArrayKind
    layer: str
    block: int = 0


@dataclass(frozen=True, slots=True)
class Array:
    """One array of a step.

    Attributes
    ----------
    id
        What it is.
    bytes
        Its size.
    users
        Tasks of the same step that write or read it; the first of them allocates it.
    next_users
        Tasks of the step after that read it.
    """

    id: ArrayId
    bytes: int
    users: tuple[TaskId, ...]
    next_users: tuple[TaskId, ...] = ()


class Uses:
    """The arrays of one pass that are dropped as soon as possible.

    Attributes
    ----------
    of
        Task -> the arrays that it writes or reads.
    counts
        Array -> how many tasks do.
    """

    def __init__(self, arrays: Iterable[Array]) -> None:
        of: dict[TaskId, list[ArrayId]] = defaultdict(list)
        self.counts: Mapping[ArrayId, int] = {a.id: len(a.users) for a in arrays}
        for array in arrays:
            for task in array.users:
                of[task].append(array.id)
        self.of: Mapping[TaskId, tuple[ArrayId, ...]] = {t: tuple(ids) for t, ids in of.items()}


def tape_arrays(
    layers: Layers, execution: Execution, *, training: bool = True
) -> tuple[Array, ...]:
    """The arrays of one patch. Maps of outputs stay with the tape, and are not among them."""
    return tuple(
        Array(array.id, array.bytes, tuple(dict.fromkeys(array.users)))
        for array in _Tape(layers, execution, training).arrays()
        if array.id not in {ArrayId("map", node.name) for node in layers.network.outputs}
    )


def output_maps(layers: Layers) -> tuple[Array, ...]:
    """The maps of the outputs, which live as long as the tape."""
    return tuple(
        Array(
            ArrayId("map", node.name),
            _bytes(layers, node.name, whole(layers.sizes[node.name])),
            _blocks(layers, "forward", node.name),
        )
        for node in layers.network.outputs
    )


def state_arrays(layers: Layers, execution: Execution) -> tuple[Array, ...]:
    """The arrays of a training state and its gradients. A step's state and gradients are dropped
    whole, when the last update has read them; kernel spectra one by one."""
    itemsize = np.dtype(layers.arithmetic.dtype).itemsize
    updates = [t for e in layers.convolutions for t in _slices(layers, "update", e)]
    updates += [TaskId("bias_update", node) for node in layers.transfers if node in layers.trained]
    arrays = []
    for edge, convolution in layers.convolutions.items():
        nbytes = math.prod(convolution.kernel) * math.prod(convolution.channels) * itemsize
        gradient, update = (_slices(layers, k, edge) for k in ("kernel_gradient", "update"))
        arrays += [
            Array(ArrayId("kernel_gradient", edge), nbytes, (*gradient, *updates)),
            Array(ArrayId("kernel", edge), 2 * nbytes, update, tuple(updates)),
        ]
        if convolution.transforms:
            arrays.append(
                Array(
                    ArrayId("kernel_spectrum", edge),
                    storage.kernel_spectrum_bytes(convolution),
                    _slices(layers, "kernel_spectrum", edge),
                    tuple(kernel_readers(layers, execution, edge, training=True)),
                )
            )
    return tuple(arrays)


def kernel_readers(
    layers: Layers, execution: Execution, edge: str, *, training: bool
) -> Iterator[TaskId]:
    """The tasks of a pass that read an edge's kernel."""
    group = layers.network.edge(edge)
    yield from _blocks(layers, "forward", group.output)
    if training and group.input in layers.trained:
        for block, _ in enumerate(layers.blocks[group.output]):
            yield slab_task(layers, execution, edge, block)


class _Tape:
    def __init__(self, layers: Layers, execution: Execution, training: bool) -> None:
        self._layers, self._execution, self._training = layers, execution, training

    def arrays(self) -> Iterator[Array]:
        layers = self._layers
        for node in layers.network.nodes:
            yield self._map(node.name)
        for edge in layers.network.edges:
            if edge.name in layers.convolutions:
                if self._training and layers.transformed(edge.name):
                    yield from self._input_spectra(edge.name)
            elif self._training:
                yield from self._residues(edge.name, edge.output)
        if self._training:
            for node in layers.network.nodes:
                if node.type == "maxout":
                    yield from self._residues(node.name, node.name)
            yield from self._backward()

    def _map(self, node: str) -> Array:
        layers = self._layers
        edges_out = layers.network.edges_from(node)
        inputs = {group.name for group in layers.network.inputs}
        users = [LOAD] if node in inputs else [*_blocks(layers, "forward", node)]
        users += [t for edge in edges_out for t in _blocks(layers, "forward", edge.output)]
        if self._training:
            if layers.has_bias(node):
                users += _blocks(layers, "backward", node)
            for edge in edges_out:
                if edge.name in self._execution.recomputed:
                    users += _blocks(layers, "input_spectrum", edge.name, edge.output)
                elif edge.name in layers.convolutions and not layers.transformed(edge.name):
                    users += _slices(layers, "kernel_gradient", edge.name)
        nbytes = _bytes(layers, node, whole(layers.sizes[node]))
        return Array(ArrayId("map", node), nbytes, tuple(users))

    def _input_spectra(self, edge: str) -> Iterator[Array]:
        layers, node = self._layers, self._layers.network.edge(edge).output
        nbytes = storage.input_spectrum_bytes(layers.convolutions[edge])
        forward = _blocks(layers, "forward", node)
        gradient = _slices(layers, "kernel_gradient", edge)
        again = edge in self._execution.recomputed  # then that of the forward pass is scratch
        makers = _blocks(layers, "input_spectrum", edge, node) if again else forward
        yield Array(ArrayId("input_spectrum", edge), nbytes, (*makers, *gradient))

    def _residues(self, name: str, node: str) -> Iterator[Array]:
        """Of an edge group into `node`, or of a maxout node group itself."""
        layers = self._layers
        channels = layers.network.node(node).size
        for b, block in enumerate(layers.blocks[node]):
            users = [TaskId("forward", node, b)]
            if node in layers.trained:
                users.append(TaskId("backward", node, b))
            nbytes = storage.residue_bytes(box_shape(block), channels)
            yield Array(ArrayId("residue", name, b), nbytes, tuple(users))

    def _backward(self) -> Iterator[Array]:
        layers = self._layers
        outputs = [node.name for node in layers.network.outputs]
        patch = sum(_bytes(layers, n, whole(layers.sizes[n])) for n in outputs)
        yield Array(ArrayId("patch", "patch"), patch, (LOAD, LOSS))
        for node in outputs:
            nbytes = _bytes(layers, node, whole(layers.sizes[node]))
            users = (LOSS, *_blocks(layers, "backward", node))
            yield Array(ArrayId("output_gradient", node), nbytes, users)
        for node in layers.trained:
            for b, _ in enumerate(layers.blocks[node]):
                if layers.has_bias(node):
                    users = (TaskId("backward", node, b), TaskId("bias_gradient", node))
                    nbytes = layers.network.node(node).size * 4
                    yield Array(ArrayId("bias_gradient", node, b), nbytes, users)
        for edge in layers.convolutions:
            if layers.spectrum_owners[edge] == edge:
                yield Array(
                    ArrayId("gradient_spectrum", edge),
                    storage.gradient_spectrum_bytes(layers.convolutions[edge]),
                    tuple(self._gradient_spectrum_users(edge)),
                )
        for group in layers.network.edges:
            if group.input in layers.trained:
                yield from self._slabs(group.name, group.input, group.output)

    def _gradient_spectrum_users(self, owner: str) -> Iterator[TaskId]:
        layers, node = self._layers, self._layers.network.edge(owner).output
        yield from _blocks(layers, "backward", node)
        for edge, shared in layers.spectrum_owners.items():
            if shared == owner:
                yield from _slices(layers, "kernel_gradient", edge)
                if layers.network.edge(edge).input in layers.trained:
                    for b, _ in enumerate(layers.blocks[node]):
                        yield slab_task(layers, self._execution, edge, b)

    def _slabs(self, edge: str, source: str, node: str) -> Iterator[Array]:
        layers = self._layers
        for b, block in enumerate(layers.blocks[node]):
            box = layers.input_box(edge, block)
            readers = (
                TaskId("backward", source, i)
                for i, target in enumerate(layers.blocks[source])
                if intersect(box, target) is not None
            )
            nbytes = _bytes(layers, source, box)
            users = (slab_task(layers, self._execution, edge, b), *readers)
            yield Array(ArrayId("slab", edge, b), nbytes, users)


def _blocks(layers: Layers, kind: Kind, name: str, node: str = "") -> tuple[TaskId, ...]:
    """A task of `name` for every block of the map of `node`, or of `name` itself."""
    return tuple(TaskId(kind, name, b) for b in range(len(layers.blocks[node or name])))


def _slices(layers: Layers, kind: Kind, edge: str) -> tuple[TaskId, ...]:
    return tuple(TaskId(kind, edge, c) for c in range(len(layers.channel_blocks[edge])))


def _bytes(layers: Layers, node: str, box: Box) -> int:
    itemsize = np.dtype(layers.arithmetic.dtype).itemsize
    return math.prod(box_shape(box)) * layers.network.node(node).size * itemsize
