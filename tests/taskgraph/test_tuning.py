"""Tuning: what is measured, what follows, and what is kept."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from znn_dask.network import Network
from znn_dask.taskgraph import choose_arithmetic, stopwatch, tuning
from znn_dask.taskgraph.arithmetic import Method, PlanError
from znn_dask.taskgraph.choice import ConvLayer, conv_layers, default_method
from znn_dask.taskgraph.stopwatch import Rounds, measure
from znn_dask.taskgraph.timings import Round, stored
from znn_dask.taskgraph.tuning import contenders, tune

NETWORK = (
    Network()
    .input()
    .conv("c1", 4, (3, 3, 3))
    .conv("c2", 4, (3, 3, 3))
    .conv("c3", 4, (1, 1, 1))
    .conv("c4", 2, (1, 3, 3), "linear", node="output")
)
SIZE = (4, 8, 8)
DIRECT, TILED = Method("direct"), Method("tiled", (5, 5, 5))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


class Machine:
    """Stands in for the stopwatch: every method takes what `seconds` says of it."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.measured: list[ConvLayer] = []

    def __call__(
        self, layer: ConvLayer, methods: Sequence[Method], seconds: float
    ) -> dict[Method, Rounds]:
        self.measured.append(layer)
        return {m: (Round(self.seconds.get(m.algorithm, 1.0), 0.1),) * 15 for m in methods}


@pytest.mark.parametrize(("training", "dtype"), [(True, "float32"), (False, "float64")])
def test_every_layer_is_measured_and_the_plan_follows(training: bool, dtype: str):
    tuned = tune(NETWORK, SIZE, dtype=dtype, training=training, seconds=60, progress=False)
    assert tuned.arithmetic.dtype == dtype
    for name in ("c1", "c2", "c4"):
        contest = tuned.contests[name]
        assert contest.default in contest.seconds
        assert all(t > 0 for taken in contest.seconds.values() for t in taken)
        assert tuned.arithmetic.convolutions[name].method == contest.best
        assert (tuned.sources[name] == "tuned") == (contest.best != contest.default)
    assert not tuned.contests["c3"].seconds
    given = {name: c.method for name, c in tuned.arithmetic.convolutions.items()}
    again = choose_arithmetic(NETWORK, SIZE, dtype, training=training, given=given)
    assert again == tuned.arithmetic


def test_the_second_time_nothing_is_measured(monkeypatch: pytest.MonkeyPatch):
    machine = Machine(direct=2.0)
    monkeypatch.setattr(tuning, "measure", machine)
    first = tune(NETWORK, SIZE)
    assert len(machine.measured) == 3
    assert set(stored().convolutions) == {repr(layer) for layer in machine.measured}
    second = tune(NETWORK, SIZE)
    assert second == first
    assert len(machine.measured) == 3
    machine.seconds["direct"] = 0.5
    assert tune(NETWORK, SIZE) == first
    third = tune(NETWORK, SIZE, refresh=True)
    assert len(machine.measured) == 6
    assert third.arithmetic.convolutions["c2"].method == DIRECT


def test_equal_layers_are_measured_once(monkeypatch: pytest.MonkeyPatch):
    twins = Network().input().conv("c1", 3, (1, 3, 3), node="a")
    twins = twins.conv("c2", 3, (1, 3, 3), source="input", to="a")
    monkeypatch.setattr(tuning, "measure", machine := Machine())
    tuned = tune(twins, (1, 8, 8))
    assert len(machine.measured) == 1
    assert set(tuned.contests) == {"c1", "c2"}


def test_methods_that_are_given_are_not_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tuning, "measure", machine := Machine())
    tuned = tune(NETWORK, SIZE, given={"c2": TILED})
    assert len(machine.measured) == 2
    assert tuned.arithmetic.convolutions["c2"].method == TILED
    assert tuned.sources["c2"] == "given"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"c9": DIRECT}, "no conv layer 'c9'; use one of: c1, c2, c3, c4"),
        ({"c2": Method("tiled", (2, 5, 5))}, "c2 as tiled:2,5,5: "),
    ],
)
def test_methods_that_do_not_fit_are_refused_at_once(
    given: dict[str, Method], message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tuning, "measure", machine := Machine())
    with pytest.raises(PlanError, match=message):
        tune(NETWORK, SIZE, given=given)
    assert not machine.measured


def test_without_time_the_default_stays():
    tuned = tune(NETWORK, SIZE, seconds=1e-9)
    assert tuned.arithmetic == choose_arithmetic(NETWORK, SIZE)
    assert set(tuned.sources.values()) == {"default"}
    assert not stored().convolutions
    assert "no time left" in tuned.explain()


def test_contenders_are_the_default_and_the_best_of_the_table():
    for name, layer in conv_layers(NETWORK, SIZE, "float32", training=True).items():
        methods = contenders(layer)
        assert methods[0] == default_method(layer)
        assert len(set(methods)) == len(methods) <= 9
        if name != "c3":
            assert DIRECT in methods
            assert sum(method.algorithm == "tiled" for method in methods) > 1


def test_far_methods_have_few_rounds(monkeypatch: pytest.MonkeyPatch):
    layer = conv_layers(NETWORK, SIZE, "float32", training=True)["c2"]
    seconds = {DIRECT: 1e-2, TILED: 1.5e-2, Method("fft"): 9e-2}

    def runner(self: object, method: Method):
        return lambda: Round(seconds[method], 0.0)

    monkeypatch.setattr(stopwatch._Maps, "runner", runner)
    rounds = measure(layer, tuple(seconds), 60)
    assert [len(taken) for taken in rounds.values()] == [15, 15, 3]
    # the first one stays, however far it is
    assert len(measure(layer, tuple(reversed(seconds)), 60)[Method("fft")]) == 15


def test_the_table_names_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tuning, "measure", Machine(direct=0.25, tiled=1.0, fft=3.0))
    tuned = tune(NETWORK, SIZE, given={"c4": DIRECT})
    text = str(tuned)
    for word in ("default", "given", "c1", "c4", "direct", "1,1,1 is always direct", "slower"):
        assert word in text
    assert tuned.arithmetic.digest in text


@pytest.mark.parametrize("text", ["direct", "fft", "tiled:12,12,12", "tiled:1,8,30"])
def test_methods_as_text(text: str):
    assert str(Method.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "auto", "tiled", "tiled:12", "tiled:0,1,2", "tiled:a,b,c", "direct:", "fft:1,2,3"]
)
def test_what_is_no_method_is_refused(text: str):
    with pytest.raises(PlanError, match="use direct, fft or tiled:"):
        Method.parse(text)


def test_a_layer_is_known_by_its_shape_and_its_gradients():
    layer = conv_layers(NETWORK, SIZE, "float32", training=True)["c1"]
    wide = dataclasses.replace(layer.shape, dtype=np.dtype(np.float64))
    assert repr(layer) != repr(dataclasses.replace(layer, shape=wide))
    assert not layer.onward
    assert conv_layers(NETWORK, SIZE, "float32", training=True)["c2"].onward
    assert not conv_layers(NETWORK, SIZE, "float32", training=False)["c2"].onward
