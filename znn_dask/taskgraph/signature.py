"""What decides the seconds of a typed task, as text: tasks of equal signature take equal time.

A signature holds no names, so layers of different networks share what was measured of them.
"""

import math

from znn_dask.kernels.geometry import Box, box_shape, intersect
from znn_dask.network import NodeGroup
from znn_dask.taskgraph.layers import Layers
from znn_dask.taskgraph.tasks import TaskId


def signature(layers: Layers, task: TaskId, *, training: bool = True, prompt: bool = False) -> str:
    """Kind, precision and geometry of a task.

    Forward tasks that keep spectra for a backward pass (`training`) differ from those that do not,
    and backward tasks from those that leave input gradients to others (`prompt`).
    """
    if task.kind == "load":
        parts = [_map(layers, node) for node in layers.network.inputs]
    elif task.kind == "loss":
        parts = [_map(layers, node) for node in layers.network.outputs]
    elif task.kind in ("forward", "backward"):
        parts = _block(layers, task, training, prompt)
    elif task.kind in ("bias_gradient", "bias_update"):
        blocks = len(layers.blocks[task.layer])
        parts = [f"{layers.network.node(task.layer).size} channels, {blocks} blocks"]
    elif task.kind in ("input_spectrum", "input_gradient"):
        block = layers.blocks[layers.network.edge(task.layer).output][task.block]
        parts = [str(box_shape(block)), repr(layers.convolutions[task.layer])]
    else:
        channels = layers.channel_blocks[task.layer][task.block]
        width = channels.stop - channels.start
        repeat = layers.network.edge(task.layer).repeat
        parts = [f"{width} channels", f"repeat {repeat}", repr(layers.convolutions[task.layer])]
    return " | ".join([task.kind, layers.arithmetic.dtype, *parts])


def _map(layers: Layers, node: NodeGroup) -> str:
    return f"{layers.sizes[node.name]} x {node.size}"


def _block(layers: Layers, task: TaskId, training: bool, prompt: bool) -> list[str]:
    """Of a forward or backward task: the node group, its block, and the edge groups around it."""
    network, node = layers.network, layers.network.node(task.layer)
    block = layers.blocks[task.layer][task.block]
    head = f"{node.type} {box_shape(block)} x {node.size}"
    if layers.has_bias(task.layer):
        head += f" {node.function}{tuple(node.arguments)}"
    parts = [head]
    for edge in network.edges_into(task.layer):
        operation = layers.convolutions.get(edge.name) or layers.kernels[edge.name]
        source = network.node(edge.input)
        part = f"{operation!r} of {_map(layers, source)}"
        if task.kind == "backward":
            later = prompt and edge.name in layers.convolutions
            onward = edge.input in layers.trained and not later
            shared = layers.spectrum_owners.get(edge.name, edge.name) != edge.name
            part += " onward" * onward + " shared" * shared
        parts.append(part)
    if task.kind == "backward":
        parts += [_slabs(layers, edge.name, block) for edge in network.edges_from(task.layer)]
    elif not training:
        parts.append("forward only")
    return parts


def _slabs(layers: Layers, edge: str, block: Box) -> str:
    """The parts of the gradient that an edge group passes back to a block."""
    targets = layers.blocks[layers.network.edge(edge).output]
    found = [intersect(layers.input_box(edge, target), block) for target in targets]
    common = [box for box in found if box is not None]
    voxels = sum(math.prod(box_shape(box)) for box in common)
    return f"{len(common)} slabs of {voxels} voxels"
