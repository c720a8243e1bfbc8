"""float32 against float64: every map and every gradient, by every algorithm, away from ties."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Case
from precision import BOUND, Run, compare, errors, reference, replay, run

from znn_dask.kernels.convolution import make_convolution
from znn_dask.kernels.geometry import whole
from znn_dask.network import Network
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.passes import Tape
from znn_dask.training.initial import initial_parameters

ALGORITHMS = ("direct", "tiled", "fft")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(threads=2)
    yield engine
    engine.close()


def of(function: str, arguments: tuple[float, ...] = ()) -> Network:
    return (
        Network()
        .input(size=2)
        .conv("c1", 6, (3, 3, 3), function, function_args=arguments)
        .max_filter("p1", (1, 2, 2), (1, 2, 2))
        .conv("c2", 5, (2, 3, 3), function, function_args=arguments)
        .conv("c3", 3, (1, 1, 1), function, function_args=arguments, node="output")
    )


def pooled() -> Network:
    return (
        Network()
        .input()
        .conv("c1", 6, (3, 5, 5), "tanh")
        .max_pool("p1", (1, 2, 2))
        .conv("c2", 4, (2, 3, 3), "rectify_linear", node="output")
    )


def maxout() -> Network:
    return (
        Network()
        .input(size=2)
        .conv("a", 4, (2, 3, 3), "tanh", node="na")
        .conv("b", 4, (2, 3, 3), "linear", source="input", node="nb")
        .maxout("most", "na", "nb")
        .conv("c", 2, (2, 2, 2), "logistics", node="output")
    )


NETWORKS = {
    "linear": of("linear", (1.5, -0.5)),
    "rectify_linear": of("rectify_linear"),
    "tanh": of("tanh", (1.7159, 0.6666)),
    "soft_sign": of("soft_sign"),
    "logistics": of("logistics"),
    "forward_logistics": of("forward_logistics"),
    "pooled": pooled(),
    "maxout": maxout(),
}


def assert_within_bound(case: Case, engine: Engine) -> None:
    for algorithm, result in compare(case, ALGORITHMS, engine):
        assert result.worst[0] < BOUND, (algorithm, result.worst)
        assert result.worst[0] > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_every_transfer_function_and_maximum(name: str, engine: Engine):
    assert_within_bound(Case(name, NETWORKS[name], (2, 6, 8)), engine)


@settings(max_examples=8, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    dilation=st.tuples(st.just(1), st.integers(1, 2), st.integers(1, 3)),
    width=st.sampled_from((1, 5, 16, 20)),
    size=st.tuples(st.integers(1, 4), st.integers(2, 9), st.integers(2, 9)),
)
def test_shapes(kernel, dilation, width, size, engine: Engine):
    network = (
        Network()
        .input()
        .conv("c1", width, kernel, "tanh", stride=dilation)
        .conv("c2", 3, kernel, "linear", node="output")
    )
    assert_within_bound(Case("shapes", network, size), engine)


@pytest.mark.parametrize(("channels", "kernel"), [(40, (7, 7, 7)), (64, (3, 3, 3))])
def test_long_sums_lose_no_digit(channels: int, kernel: tuple[int, int, int]):
    """Of one direct convolution; all products in one sum would be too far off."""
    rng = np.random.default_rng(0)
    size = tuple(k + 3 for k in kernel)
    x = rng.standard_normal((*size, channels), np.float32)
    w = rng.standard_normal((*kernel, channels, channels), np.float32)
    found, exact = (direct(x.astype(t), w.astype(t)) for t in (np.float32, np.float64))
    terms = w[..., 0].size
    assert np.linalg.norm(found - exact) < 1.3e-8 * terms**0.5 * np.linalg.norm(exact)


def direct(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    made = make_convolution("direct", x.shape[:3], w.shape[:3], channels=w.shape[3:], dtype=x.dtype)
    return made.forward(x, w, whole(made.output_size))


def test_replay_takes_the_winners_and_signs_of_the_other_run(engine: Engine):
    """With other parameters much flips; afterwards gradients go where those of the other went."""
    network, size = of("rectify_linear"), (2, 6, 8)
    arithmetic = reference(choose_arithmetic(network, size))
    patch = noise_source(network, size).always

    def passed(seed: int, way: Run | None = None) -> Run:
        return run(network, arithmetic, initial_parameters(network, seed), patch, engine, way)

    way, free = passed(0), passed(1)
    bound = passed(1, way)
    assert bound.flips > 0
    assert errors(bound.arrays, free.arrays)["map", "output"] == 0
    assert errors(bound.arrays, free.arrays)["kernel", "c1"] > 0
    assert replay(network, bound.tape, way.tape) == 0
    assert replay(network, Tape((0, 0), maps=way.tape.maps), Tape((0, 0), maps=way.tape.maps)) == 0
