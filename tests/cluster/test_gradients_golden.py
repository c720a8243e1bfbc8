"""The original's float64 results, on every kind of cluster, and the same bits on all of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client
from random_patches import RandomPatches, random_parameters

import znn_dask as znn
from znn_dask.cluster.local import local_cluster
from znn_dask.cluster.session import Session, losses
from znn_dask.cluster.work import TrainingSpec
from znn_dask.network import Network, read_znn
from znn_dask.taskgraph import choose_arithmetic
from znn_dask.taskgraph.fixed import given_source
from znn_dask.taskgraph.state import ParameterError, UpdateRule

Arrays = dict[str, np.ndarray]
NETWORKS = ("conv3d", "maxfilter", "dag")
ALGORITHMS = ("direct", "fft", "tiled", "auto")
CLUSTERS = {
    "one worker of two threads": (2, 1, False),
    "two workers": (1, 2, False),
    "a process of two threads": (2, 1, True),
    "two processes": (1, 2, True),
}


@dataclass(frozen=True)
class Golden:
    """One network with what the original computed."""

    network: Network
    initial: Arrays
    inputs: Arrays
    output_gradients: Arrays
    outputs: Arrays
    gradients: Arrays
    after3: Arrays

    @property
    def output_size(self) -> tuple[int, int, int]:
        z, y, x = next(iter(self.outputs.values())).shape[1:]
        return z, y, x


@cache
def read_golden(folder: Path, name: str) -> Golden:
    with np.load(folder / f"{name}.npz") as arrays:
        parts = [
            {key.removeprefix(part): arrays[key] for key in arrays.files if key.startswith(part)}
            for part in ("init/", "input/", "output_gradient/", "output/", "gradient/", "after3/")
        ]
    network = read_znn(folder / f"{name}.znn")
    after3 = {key: parts[-1][key] for key in network.parameter_shapes()}  # it has outputs too
    return Golden(network, *parts[:-1], after3)


@pytest.fixture(params=NETWORKS)
def golden(shared: Path, request: pytest.FixtureRequest) -> Golden:
    return read_golden(shared / "znn/golden", request.param)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(setting, id=name, marks=[pytest.mark.cluster] if setting[2] else [])
        for name, setting in CLUSTERS.items()
    ],
)
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    threads, workers, processes = request.param
    with local_cluster(threads, workers=workers, processes=processes, dashboard=False) as client:
        yield client


@pytest.fixture(scope="module")
def one_worker() -> Iterator[Client]:
    with local_cluster(1, dashboard=False) as client:
        yield client


def assert_close(found: Arrays, expected: Arrays, relative: float) -> None:
    """Errors are relative to the largest value of each array."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        tolerance = relative * np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=0, atol=tolerance, err_msg=name)


def assert_same_bits(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert found[name].tobytes() == values.tobytes(), name


def serial(golden: Golden, algorithm: str, dtype: str = "float64") -> tuple[Arrays, Arrays]:
    given = (golden.network, golden.initial, golden.inputs, golden.output_gradients)
    return znn.gradients(*given, dtype=dtype, algorithm=algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_serial_results_are_the_originals(golden: Golden, algorithm: str) -> None:
    outputs, gradients = serial(golden, algorithm)
    assert_close(outputs, golden.outputs, 1e-10)
    assert_close(gradients, golden.gradients, 1e-10)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_float32_is_close(golden: Golden, algorithm: str) -> None:
    outputs, gradients = serial(golden, algorithm, "float32")
    assert {array.dtype for array in (*outputs.values(), *gradients.values())} == {
        np.dtype("float32")
    }
    assert_close(outputs, golden.outputs, 1e-4)
    assert_close(gradients, golden.gradients, 1e-4)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_cluster_has_the_serial_bits(golden: Golden, algorithm: str, client: Client) -> None:
    given = (golden.network, golden.initial, golden.inputs, golden.output_gradients)
    outputs, gradients = znn.gradients(*given, client=client, algorithm=algorithm)
    expected = serial(golden, algorithm)
    assert_same_bits(outputs, expected[0])
    assert_same_bits(gradients, expected[1])


def train(
    client: Client,
    spec: TrainingSpec,
    parameters: Arrays,
    rules: list[UpdateRule],
    *,
    whole_steps: bool,
    momenta: Arrays | None = None,
    between: Callable[[Session, int], Any] | None = None,
) -> tuple[Arrays, Arrays]:
    """Parameters and momenta after one update per rule; `between` is called after each."""
    session = Session(client, spec, whole_steps=whole_steps)
    session.start(parameters, momenta, 0)
    if between is None:
        session.train(0, rules)
    else:
        for step, rule in enumerate(rules):
            session.train(step, [rule])
            between(session, step + 1)
    try:
        return session.result(session.snapshot(len(rules)))
    finally:
        session.close()


@pytest.mark.parametrize("whole_steps", [True, False], ids=["steps", "passes"])
def test_three_updates_are_the_originals(golden: Golden, client: Client, whole_steps: bool) -> None:
    arithmetic = choose_arithmetic(golden.network, golden.output_size, "float64")
    source = given_source(golden.inputs, golden.output_gradients, "float64")
    spec = TrainingSpec(golden.network, arithmetic, "given", source)
    rule = UpdateRule(0.05, 0.9, 0.001, 1 / np.prod(golden.output_size))
    after, _ = train(client, spec, golden.initial, [rule] * 3, whole_steps=whole_steps)
    assert_close(after, golden.after3, 1e-10)


SMALL = (
    Network()
    .input()
    .conv("c1", 5, (1, 5, 5))
    .max_filter("p1", (1, 2, 2), (1, 2, 2))
    .conv("c2", 7, (2, 3, 3), "tanh", node="n2")
    .dropout("d", 0.7)
    .conv("c3", 3, (2, 2, 2), "linear", node="output")
)
OUTPUT = (3, 6, 5)


@cache
def updates_in_this_process(batch: int, algorithm: str) -> tuple[Arrays, Arrays]:
    with local_cluster(1, dashboard=False) as client:
        return three_updates(client, batch, algorithm, whole_steps=False)


def three_updates(
    client: Client, batch: int, algorithm: str, *, whole_steps: bool
) -> tuple[Arrays, Arrays]:
    spec = TrainingSpec(
        SMALL,
        choose_arithmetic(SMALL, OUTPUT, "float32", algorithm),
        "given",
        RandomPatches(SMALL, OUTPUT),
        seed=3,
        batch=batch,
    )
    rules = [UpdateRule(0.01 / (1 + i), 0.9, 0.001, 1 / (batch * 90)) for i in range(3)]
    return train(client, spec, random_parameters(SMALL), rules, whole_steps=whole_steps)


@pytest.mark.parametrize(("batch", "algorithm"), [(1, "auto"), (4, "auto"), (5, "tiled")])
def test_every_cluster_trains_to_the_same_bits(client: Client, batch: int, algorithm: str) -> None:
    expected = updates_in_this_process(batch, algorithm)
    for whole_steps in (False, True)[: 2 if batch == 1 else 1]:
        found = three_updates(client, batch, algorithm, whole_steps=whole_steps)
        assert_same_bits(found[0], expected[0])
        assert_same_bits(found[1], expected[1])


def test_a_batch_is_its_patches_added_up(client: Client) -> None:
    """One update of a batch against the sum of the patches' own gradients."""
    plain = (
        Network()
        .input()
        .conv("c1", 5, (1, 5, 5))
        .max_filter("p1", (1, 2, 2), (1, 2, 2))
        .conv("c2", 3, (2, 3, 3), "linear", node="output")
    )
    batch, parameters = 3, random_parameters(plain)
    source = RandomPatches(plain, OUTPUT, "float64")
    arithmetic = choose_arithmetic(plain, OUTPUT, "float64")
    spec = TrainingSpec(plain, arithmetic, "given", source, batch=batch)
    after, momenta = train(
        client, spec, parameters, [UpdateRule(0.1, 0.5, 0.0, 1 / 7)], whole_steps=False
    )
    total = {name: np.zeros_like(values) for name, values in parameters.items()}
    for index in range(batch):
        patch = source.patch(index)
        maps = [
            {name: np.moveaxis(x, -1, 0) for name, x in part.items()}
            for part in (patch.inputs, patch.targets)
        ]
        _, gradients = znn.gradients(plain, parameters, *maps)
        for name, gradient in gradients.items():
            total[name] += gradient
    assert_close(momenta, {name: -0.1 / 7 * g for name, g in total.items()}, 1e-10)
    assert_close(after, {n: p - 0.1 / 7 * total[n] for n, p in parameters.items()}, 1e-10)


def test_cutting_the_lineage_changes_nothing(client: Client) -> None:
    spec = TrainingSpec(
        SMALL, choose_arithmetic(SMALL, OUTPUT), "given", RandomPatches(SMALL, OUTPUT), batch=2
    )
    rules = [UpdateRule(0.01, 0.9, 0.001, 1 / 180)] * 4
    given = (client, spec, random_parameters(SMALL), rules)
    straight = train(*given, whole_steps=False)
    cut = train(*given, whole_steps=False, between=Session.cut)
    snapshots = train(*given, whole_steps=False, between=Session.snapshot)
    for found in (cut, snapshots):
        assert_same_bits(found[0], straight[0])
        assert_same_bits(found[1], straight[1])


def test_going_on_from_a_snapshot_is_going_on(client: Client) -> None:
    rules = [UpdateRule(0.01, 0.9, 0.001, 1 / 90)] * 4
    spec = TrainingSpec(
        SMALL, choose_arithmetic(SMALL, OUTPUT), "given", RandomPatches(SMALL, OUTPUT), seed=5
    )
    straight = train(client, spec, random_parameters(SMALL), rules, whole_steps=True)
    session = Session(client, spec, whole_steps=True)
    session.start(random_parameters(SMALL), None, 0)
    session.train(0, rules[:2])
    parameters, momenta = session.result(session.snapshot(2))
    session.start(parameters, momenta, 2)  # a new epoch
    session.train(2, rules[2:])
    found = session.result(session.snapshot(4))
    session.close()
    assert_same_bits(found[0], straight[0])
    assert_same_bits(found[1], straight[1])


def test_loss_records_are_those_of_the_patches(client: Client) -> None:
    spec = TrainingSpec(
        SMALL, choose_arithmetic(SMALL, OUTPUT), "square", RandomPatches(SMALL, OUTPUT), batch=2,
        validation=RandomPatches(SMALL, OUTPUT),
    )  # fmt: skip
    session = Session(client, spec, whole_steps=True)
    session.start(random_parameters(SMALL), None, 0)
    first = session.train(0, [UpdateRule(0.0, 0.0, 0.0, 1.0)] * 3)
    second = session.train(3, [UpdateRule(0.0, 0.0, 0.0, 1.0)] * 2)
    records = losses(session.result(report) for report in (*first, *second))
    assert [record.step for record in records] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert all(record.elements == 90 * 3 for record in records)
    assert all(record.value > 0 for record in records)
    validation = session.result(session.validate(5, 6))
    again = session.result(session.validate(5, 6))
    assert validation == again
    assert validation.elements == 6 * 90 * 3
    session.close()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_forward_pass_gives_the_originals_probabilities(shared: Path, algorithm: str) -> None:
    h5py = pytest.importorskip("h5py")
    from znn_dask.interop.znn_h5 import read_znn_h5

    path = shared / "znn/checkpoints/boundary_double.h5"
    saved = read_znn_h5(path)
    with h5py.File(path) as file:
        patch = file["processing/znn/train/patch"]
        x, props = patch["inputs/input"][()], patch["props/output"][()]
    arithmetic = choose_arithmetic(saved.network, props.shape[1:], "float64", algorithm)
    forward = znn.ForwardPass(
        saved.network, saved.parameters, props.shape[1:], "float64", arithmetic
    )
    outputs = forward({"input": np.moveaxis(x, 0, -1)})["output"]
    exponentials = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    found = exponentials / exponentials.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(np.moveaxis(found, -1, 0), props, rtol=0, atol=1e-12)


@dataclass(frozen=True)
class StoredPatches:
    """Patches of updates 1, 2, ... in the original's files; maps (z, y, x, c)."""

    stored: tuple[tuple[Arrays, Arrays, Arrays], ...]

    def patch(self, index: int) -> Any:
        from types import SimpleNamespace

        inputs, targets, weights = self.stored[min(index, len(self.stored) - 1)]
        return SimpleNamespace(inputs=inputs, targets=targets, weights=weights)


def stored_patch(path: Path) -> tuple[Arrays, Arrays, Arrays]:
    import h5py

    with h5py.File(path) as file:
        patch = file["processing/znn/train/patch"]
        x, truth, weights = (
            np.ascontiguousarray(np.moveaxis(patch[name][()], 0, -1), np.float32)
            for name in ("inputs/input", "lbls/output", "weights")
        )
    return {"input": x}, {"output": truth}, {"output": weights}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_five_updates_go_where_the_original_went(
    shared: Path, algorithm: str, one_worker: Client
) -> None:
    pytest.importorskip("h5py")
    from znn_dask.interop.znn_h5 import read_znn_h5

    folder = shared / "znn/golden_training/affinity"
    patches = tuple(stored_patch(folder / f"net_{k}.h5") for k in range(1, 6))
    initial = read_znn_h5(folder / "net_init.h5")
    net = initial.network
    size = patches[0][1]["output"].shape[:3]
    arithmetic = choose_arithmetic(net, size, "float32", algorithm)
    spec = TrainingSpec(net, arithmetic, "binomial", StoredPatches(patches))
    session = Session(one_worker, spec, whole_steps=False)
    session.start(initial.parameters, initial.momenta, 0)
    for k in range(1, 6):
        expected = read_znn_h5(folder / f"net_{k}.h5")
        eta = float(dict(expected.network.node("output").options)["eta"])
        session.train(k - 1, [UpdateRule(eta, 0.9, 0.0, 1 / np.prod(size))])
        parameters, momenta = session.result(session.snapshot(k))
        assert_close(parameters, expected.parameters, 1e-5)
        assert_close(momenta, expected.momenta, 1e-4)
    session.close()


def test_arrays_that_do_not_fit_are_refused_before_anything_runs(golden: Golden) -> None:
    net, parameters = golden.network, golden.initial
    maps = (golden.inputs, golden.output_gradients)
    name = next(iter(parameters))
    with pytest.raises(ParameterError, match=f"'{name}' is missing"):
        znn.gradients(net, {k: v for k, v in parameters.items() if k != name}, *maps)
    with pytest.raises(ParameterError, match="'other' belongs to no group"):
        znn.gradients(net, parameters | {"other": np.zeros(1)}, *maps)
    with pytest.raises(ParameterError, match=f"'{name}' has shape"):
        znn.gradients(net, parameters | {name: np.zeros((1, 2))}, *maps)
    with pytest.raises(ValueError, match=r"inputs are given for \[\]"):
        znn.gradients(net, parameters, {}, maps[1])
    with pytest.raises(ValueError, match="map 'input' has shape"):
        znn.gradients(net, parameters, maps[0] | {"input": np.zeros((1, 3, 3, 3))}, maps[1])
    with pytest.raises(ValueError, match="algorithm 'fast' is unknown"):
        znn.gradients(net, parameters, *maps, algorithm="fast")
    with pytest.raises(ValueError, match="dtype 'float16' is unknown"):
        znn.gradients(net, parameters, *maps, dtype="float16")
