"""The same bits after 50 updates, however many workers and threads, in one process or several."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from distributed import Client
from random_patches import RandomPatches, random_parameters
from small_network import NETWORK, OUTPUT

from znn_dask.cluster.local import local_cluster
from znn_dask.cluster.session import Session, losses
from znn_dask.cluster.work import TrainingSpec
from znn_dask.taskgraph import choose_arithmetic
from znn_dask.taskgraph.arithmetic import Arithmetic
from znn_dask.taskgraph.granules import FAN
from znn_dask.taskgraph.losses import LossRecord
from znn_dask.taskgraph.state import Parameters, UpdateRule

UPDATES = 50
Bits = tuple[Parameters, Parameters, list[LossRecord]]


def mixed() -> Arithmetic:
    """One layer by FFT of the whole map, one by tiles, the others directly."""
    made = {a: choose_arithmetic(NETWORK, OUTPUT, "float32", a) for a in ("direct", "fft", "tiled")}
    direct = made["direct"].convolutions
    edges = list(direct)
    chosen = {edges[1]: made["fft"].convolutions[edges[1]], edges[2]: direct[edges[2]]}
    first = made["tiled"].convolutions[edges[0]]
    arithmetic = replace(made["tiled"], convolutions={edges[0]: first, **chosen})
    assert {c.algorithm for c in arithmetic.convolutions.values()} == {"direct", "fft", "tiled"}
    return arithmetic


def fifty_updates(client: Client, batch: int, *, whole_steps: bool) -> Bits:
    """Parameters, momenta and losses; on all workers that the batch can use."""
    source = RandomPatches(NETWORK, OUTPUT)
    spec = TrainingSpec(NETWORK, mixed(), "square", source, seed=3, batch=batch)
    scale = 1 / (batch * math.prod(OUTPUT))
    rules = [UpdateRule(0.01 / (1 + i), 0.9, 0.001, scale) for i in range(UPDATES)]
    session = Session(client, spec, whole_steps=whole_steps)
    session.start(random_parameters(NETWORK), None, 0)
    try:
        reports = [r for i in range(0, UPDATES, 10) for r in session.train(i, rules[i : i + 10])]
        parameters, momenta = session.result(session.snapshot(UPDATES))
        return parameters, momenta, losses(session.result(report) for report in reports)
    finally:
        session.close()


@cache
def reference(batch: int) -> Bits:
    with local_cluster(1, dashboard=False) as client:
        found = fifty_updates(client, batch, whole_steps=True)
    assert all(np.isfinite(p).all() for p in found[0].values())
    assert any(p.any() for p in found[1].values())
    return found


def assert_reference_bits(client: Client, batch: int, *, whole_steps: bool) -> None:
    found, expected = fifty_updates(client, batch, whole_steps=whole_steps), reference(batch)
    for arrays, others in zip(found[:2], expected[:2], strict=True):
        assert arrays.keys() == others.keys()
        for name, values in arrays.items():
            assert values.tobytes() == others[name].tobytes(), name
    assert found[2] == expected[2]


@pytest.fixture(
    scope="module",
    params=[(1, 1), (1, 2), (2, 1), (4, 1)],
    ids=lambda setting: f"{setting[0]}x{setting[1]}",
)
def in_process(request: pytest.FixtureRequest) -> Iterator[Client]:
    workers, threads = request.param
    with local_cluster(threads, workers=workers, dashboard=False) as client:
        yield client


@pytest.mark.parametrize(
    ("batch", "whole_steps"), [(1, True), (3, True), (4, True), (3, False), (4, False)]
)
def test_workers_in_one_process(in_process: Client, batch: int, whole_steps: bool):
    assert_reference_bits(in_process, batch, whole_steps=whole_steps)


def test_more_workers_than_add_up_by_themselves():
    """Beyond `FAN` slots sums travel in a tree."""
    with local_cluster(1, workers=FAN + 1, dashboard=False) as client:
        assert_reference_bits(client, FAN + 1, whole_steps=True)


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("workers", "threads", "runs"),
    [
        (1, 2, [(1, False)]),
        (2, 1, [(3, True), (4, False)]),
        (4, 1, [(4, True)]),
    ],
)
def test_workers_in_processes_of_their_own(
    workers: int, threads: int, runs: list[tuple[int, bool]]
):
    with local_cluster(threads, workers=workers, processes=True, dashboard=False) as client:
        for batch, whole_steps in runs:
            assert_reference_bits(client, batch, whole_steps=whole_steps)
