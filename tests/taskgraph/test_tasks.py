"""Typed tasks: complete, in order, and of the right type."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from planned_networks import NETWORKS

from znn_dask.kernels.geometry import box_shape, intersect
from znn_dask.network import read_znn
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.cost import TaskCost
from znn_dask.taskgraph.execution import Execution
from znn_dask.taskgraph.layers import Layers, compile_layers
from znn_dask.taskgraph.tasks import LOAD, LOSS, TYPE, Task, TaskId, expand


@cache
def compiled(name: str, algorithm: str, golden: Path | None) -> Layers:
    network, size = (
        (read_znn(golden / f"{name}.znn"), (4, 6, 6)) if golden is not None else NETWORKS[name]
    )
    return compile_layers(network, choose_arithmetic(network, size, algorithm=algorithm))


@pytest.fixture(
    params=[
        (name, algorithm)
        for name in (*NETWORKS, "conv3d", "maxfilter", "dag")
        for algorithm in ("auto", "direct", "tiled")
    ],
    ids="-".join,
)
def layers(request: pytest.FixtureRequest) -> Layers:
    name, algorithm = request.param
    golden = None
    if name not in NETWORKS:
        golden = request.getfixturevalue("shared") / "znn/golden"
    return compiled(name, algorithm, golden)


def by_kind(tasks: tuple[Task, ...], kind: str) -> list[Task]:
    return [task for task in tasks if task.id.kind == kind]


def ancestors(tasks: tuple[Task, ...]) -> dict[TaskId, set[TaskId]]:
    found: dict[TaskId, set[TaskId]] = {}
    for task in tasks:
        found[task.id] = set(task.needs).union(*(found[need] for need in task.needs))
    return found


def test_every_need_stands_before(layers: Layers):
    seen: set[TaskId] = set()
    tasks = expand(layers, TaskCost(layers))
    every = {task.id for task in tasks}
    for task in tasks:
        assert set(task.needs) <= seen
        assert set(task.needs_previous) <= every
        assert len(set(task.needs)) == len(task.needs)
        assert task.id not in seen
        seen.add(task.id)
        assert task.seconds >= 0
        assert task.bytes >= 0


def test_types(layers: Layers):
    for task in expand(layers, TaskCost(layers)):
        assert task.type == TYPE[task.id.kind]
        assert (task.type == 1) == (task.id.kind in ("forward", "loss", "backward"))


def test_every_block_of_every_map_is_computed_once(layers: Layers):
    tasks = expand(layers, TaskCost(layers))
    forward = [task.id for task in by_kind(tasks, "forward")]
    backward = [task.id for task in by_kind(tasks, "backward")]
    inputs = {node.name for node in layers.network.inputs}
    blocks = {(n, b) for n in layers.blocks for b in range(len(layers.blocks[n]))}
    assert {(t.layer, t.block) for t in forward} == {(n, b) for n, b in blocks if n not in inputs}
    assert {(t.layer, t.block) for t in backward} == {
        (n, b) for n, b in blocks if n in layers.trained
    }
    for node, boxes in layers.blocks.items():
        covered = np.zeros(layers.sizes[node], int)
        for box in boxes:
            covered[box] += 1
        assert (covered == 1).all()


def test_every_kernel_block_is_updated_once(layers: Layers):
    tasks = expand(layers, TaskCost(layers))
    for edge, blocks in layers.channel_blocks.items():
        covered = [c for block in blocks for c in range(block.start, block.stop)]
        assert covered == list(range(layers.channels(edge)[0]))
        for kind in ("kernel_gradient", "update", "kernel_spectrum"):
            found = [t.id.block for t in by_kind(tasks, kind) if t.id.layer == edge]
            wanted = kind != "kernel_spectrum" or layers.transformed(edge)
            assert found == (list(range(len(blocks))) if wanted else [])
    biased = [node.name for node in layers.network.nodes if node.type == "transfer"]
    for kind in ("bias_gradient", "bias_update"):
        assert sorted(t.id.layer for t in by_kind(tasks, kind)) == sorted(biased)


def forward_needs(layers: Layers, node: str, b: int) -> Iterator[TaskId]:
    """Blocks of the maps in front that a block reads."""
    inputs = {group.name for group in layers.network.inputs}
    for edge in layers.network.edges_into(node):
        box = layers.input_box(edge.name, layers.blocks[node][b])
        for i, source in enumerate(layers.blocks[edge.input]):
            if edge.input in inputs:
                yield LOAD
            elif intersect(box, source) is not None:
                yield TaskId("forward", edge.input, i)


def test_a_block_needs_what_it_reads_and_nothing_else(layers: Layers):
    tasks = expand(layers, TaskCost(layers))
    for task in by_kind(tasks, "forward"):
        assert set(task.needs) == set(forward_needs(layers, task.id.layer, task.id.block))
        parameters = {need.kind for need in task.needs_previous}
        assert parameters <= {"kernel_spectrum", "update", "bias_update"}
        for edge in layers.network.edges_into(task.id.layer):
            if edge.type == "conv":
                kind = "kernel_spectrum" if layers.transformed(edge.name) else "update"
                blocks = range(len(layers.channel_blocks[edge.name]))
                assert {TaskId(kind, edge.name, c) for c in blocks} <= set(task.needs_previous)


def test_the_loss_comes_after_all_outputs_and_before_all_gradients(layers: Layers):
    tasks = expand(layers, TaskCost(layers))
    before = ancestors(tasks)
    outputs = {node.name for node in layers.network.outputs}
    needed = {t.id for t in by_kind(tasks, "forward") if t.id.layer in outputs}
    assert needed <= before[LOSS]
    for kind in ("backward", "kernel_gradient", "bias_gradient", "update", "bias_update"):
        for task in by_kind(tasks, kind):
            assert LOSS in before[task.id]


def test_a_kernel_gradient_needs_the_gradient_of_the_whole_map(layers: Layers):
    tasks = expand(layers, TaskCost(layers))
    for task in by_kind(tasks, "kernel_gradient"):
        node = layers.network.edge(task.id.layer).output
        wanted = {TaskId("backward", node, b) for b in range(len(layers.blocks[node]))}
        assert set(task.needs) == wanted


def test_a_forward_pass_alone(layers: Layers):
    tasks = expand(layers, TaskCost(layers), training=False)
    assert {task.id.kind for task in tasks} == {"load", "forward"}


def test_costs_of_blocks_add_up(layers: Layers):
    """Cutting a map into blocks shares its seconds and bytes out, it does not change them."""
    cost = TaskCost(layers, slowness=2.0)
    single = TaskCost(layers)
    for node, boxes in layers.blocks.items():
        voxels = sum(np.prod(box_shape(box)) for box in boxes)
        assert voxels == np.prod(layers.sizes[node])
    for task, once in zip(expand(layers, cost), expand(layers, single), strict=True):
        assert task.bytes == once.bytes
        assert task.seconds >= once.seconds


def test_a_prompt_execution_goes_back_layer_by_layer(layers: Layers):
    """Kernel gradients, then input gradients; the next kernel spectra when all is over."""
    execution = Execution(prompt=True)
    tasks = expand(layers, TaskCost(layers), execution=execution)
    before = ancestors(tasks)
    passed = {task.id for task in by_kind(tasks, "input_gradient")}
    assert passed == {
        TaskId("input_gradient", edge.name, b)
        for edge in layers.network.conv_edges
        if edge.input in layers.trained
        for b in range(len(layers.blocks[edge.output]))
    }
    for task in by_kind(tasks, "input_gradient"):
        assert task.type == 1
        node = layers.network.edge(task.id.layer).output
        first = {TaskId("backward", node, b) for b in range(len(layers.blocks[node]))}
        channels = range(len(layers.channel_blocks[task.id.layer]))
        first |= {TaskId("kernel_gradient", task.id.layer, c) for c in channels}
        assert first <= before[task.id]
    last = {
        task.id
        for task in by_kind(tasks, "kernel_gradient")
        if layers.network.edge(task.id.layer).input not in layers.trained
    }
    for task in by_kind(tasks, "kernel_spectrum"):
        assert last <= before[task.id]
