"""Signatures: equal for equal work, whatever it is called; different for different work."""

from dataclasses import replace

import pytest
from planned_networks import NETWORKS

from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.layers import Layers, compile_layers
from znn_dask.taskgraph.plan import plan
from znn_dask.taskgraph.signature import signature
from znn_dask.taskgraph.tasks import TaskId

SIZE = (8, 16, 16)


def compiled(network: Network, size: Triple = SIZE, dtype: str = "float32") -> Layers:
    return compile_layers(network, choose_arithmetic(network, size, dtype, "tiled"))


def network(
    *, width: int = 12, kernel: int = 5, function: str = "tanh", name: str = "b", repeat: int = 1
) -> Network:
    return (
        Network()
        .input()
        .conv("a", 8, (1, 3, 3), node="na")
        .conv(
            name, width, (1, kernel, kernel), function, node=f"n{name}", repeat=(1, repeat, repeat)
        )
        .conv("c", 3, 1, "linear", node="output")
    )


def of(kind: str, layers: Layers, name: str = "b", *, training: bool = True) -> str:
    layer = f"n{name}" if kind in ("forward", "backward", "bias_gradient", "bias_update") else name
    layer = "patch" if kind in ("load", "loss") else layer
    return signature(layers, TaskId(kind, layer), training=training)  # type: ignore[arg-type]


KINDS = ("forward", "backward", "kernel_gradient", "update", "kernel_spectrum", "bias_update")


@pytest.mark.parametrize("kind", [*KINDS, "load", "loss", "bias_gradient"])
def test_names_do_not_count(kind: str):
    one, other = compiled(network()), compiled(network(name="another"))
    assert of(kind, one) == of(kind, other, "another")


@pytest.mark.parametrize("kind", ["forward", "backward", "kernel_gradient", "kernel_spectrum"])
def test_geometry_and_precision_count(kind: str):
    layers = [
        compiled(network()),
        compiled(network(width=16)),
        compiled(network(kernel=3)),
        compiled(network(), (8, 24, 24)),
        compiled(network(), dtype="float64"),
    ]
    assert len({of(kind, each) for each in layers}) == len(layers)


def test_the_algorithm_counts():
    tiled = compiled(network())
    direct = compile_layers(network(), choose_arithmetic(network(), SIZE, algorithm="direct"))
    for kind in ("forward", "backward", "kernel_gradient"):
        assert of(kind, tiled) != of(kind, direct)


def test_the_transfer_function_counts_where_it_is_applied():
    one, other = compiled(network()), compiled(network(function="logistics"))
    for kind in ("forward", "backward"):
        assert of(kind, one) != of(kind, other)
    for kind in ("kernel_gradient", "update", "bias_update", "loss"):
        assert of(kind, one) == of(kind, other)


def test_tied_kernels_are_updated_differently():
    one = compiled(network(kernel=6))
    other = compiled(network(kernel=6, repeat=2))
    assert of("update", one) != of("update", other)


def test_a_forward_pass_alone_keeps_nothing():
    layers = compiled(network())
    assert of("forward", layers) != of("forward", layers, training=False)
    assert of("load", layers) == of("load", layers, training=False)


def test_blocks_of_one_shape_are_alike_and_others_are_not():
    layers = compiled(network(), (8, 48, 48))
    cut = replace(layers.arithmetic, cuts={**layers.arithmetic.cuts, "nb": (0, 3, 3)})
    layers = compile_layers(layers.network, cut)
    first, second, last = (signature(layers, TaskId("forward", "nb", b)) for b in range(3))
    assert first == second != last


@pytest.mark.parametrize("name", NETWORKS)
def test_signatures_hold_values_only(name: str):
    """No address of an object: another process must find the same text."""
    made = plan(*NETWORKS[name], slowness=1.0)
    again = compile_layers(made.network, made.arithmetic)
    for task in made.tasks:
        text = signature(made.layers, task.id)
        assert " at 0x" not in text
        assert text == signature(again, task.id)
        assert text.startswith(task.id.kind)
