"""The layers that are measured, and their goals."""

import pytest
from convolution import Measured, candidates, report
from layers import SECTIONS, Layer

ONE = (1, 1, 1)


def cube(edge: int, width: int) -> Layer:
    return Layer("conv", (width, width), (edge,) * 3, ONE, (16, 16, 16))


@pytest.mark.parametrize(
    ("edge", "width", "goal"),
    [(3, 24, 1), (3, 32, 2), (5, 15, 1), (5, 16, 3), (5, 24, 5), (7, 40, 8), (9, 24, 12)],
)
def test_goals_rise_with_the_kernel(edge: int, width: int, goal: float):
    assert cube(edge, width).goal == goal


def test_flat_and_pooling_layers_must_be_no_slower():
    assert Layer("conv", (80, 80), (1, 5, 5), ONE, (1, 64, 64)).goal == 1
    assert Layer("max_filter", (80, 80), (3, 3, 3), ONE, (9, 9, 9)).goal == 1


def test_sizes_of_inputs():
    assert Layer("conv", (1, 1), (1, 3, 5), (1, 2, 4), (1, 10, 10)).input == (1, 14, 26)
    assert Layer("max_pool", (1, 1), (2, 2, 2), ONE, (3, 4, 5)).input == (6, 8, 10)


def test_no_layer_is_measured_twice():
    layers = [layer for section in SECTIONS.values() for layer in section]
    assert len(set(layers)) == len(layers)
    assert len({str(layer) for layer in layers}) == len(layers)


@pytest.mark.parametrize(
    "layer",
    [
        Layer("conv", (1, 4), (3, 3, 3), ONE, (4, 4, 4)),
        Layer("conv", (8, 8), (1, 1, 1), ONE, (1, 8, 8)),
        Layer("max_pool", (4, 4), (2, 2, 2), ONE, (3, 3, 3)),
    ],
    ids=str,
)
def test_both_kinds_of_runs_run(layer: Layer):
    chosen, updates, forward = candidates(layer)
    assert bool(chosen) == (layer.kind == "conv")
    for ours in updates.values():
        ours.update()
    assert forward.forward() is not None


def test_what_misses_its_goal_is_said():
    layer = cube(5, 24)
    both = {"update": 1.0, "forward": 1.0}
    fast = Measured(layer, "direct", both, both, {}, {"update": 5.5, "forward": 6.0}, {}, {})
    slow = Measured(layer, "direct", both, both, {}, {"update": 5.5, "forward": 4.0}, {}, {})
    text = report({"large": [fast, slow]})
    assert "1 of 2 layers reach their goal" in text
    assert "update 5.50, forward 4.00 of 5" in text
    assert text.count("**4.00**") == 1
