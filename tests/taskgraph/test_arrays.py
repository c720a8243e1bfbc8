"""The table of arrays against reality: nothing lives longer than it says, no bit depends on it."""

import gc
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planned_networks import NETWORKS

from znn_dask.cluster import work
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.kernels import memory
from znn_dask.network import Network
from znn_dask.taskgraph import passes, program
from znn_dask.taskgraph.arrays import tape_arrays
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.cost import TaskCost
from znn_dask.taskgraph.engine import Engine, TaskError
from znn_dask.taskgraph.execution import Execution
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.layers import compile_layers
from znn_dask.taskgraph.state import Parameters, State, UpdateRule
from znn_dask.taskgraph.tasks import expand
from znn_dask.training.initial import initial_parameters

RULE = UpdateRule(0.01, 0.9, 1e-4, 1e-3)
ALGORITHMS = ("auto", "direct", "fft", "tiled")
STORES = (
    "maps",
    "spectra",
    "residues",
    "output_gradients",
    "gradient_spectra",
    "slabs",
    "bias_gradients",
)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A chain of layers of every kind, some of them branching and meeting again."""
    net = Network().input("input", draw(st.integers(1, 2)))
    before = "input"
    for i in range(draw(st.integers(1, 4))):
        width = draw(st.sampled_from([2, 9]))
        size = draw(st.sampled_from([(1, 3, 3), (2, 2, 2), (1, 1, 1), (2, 3, 1)]))
        kind = draw(st.sampled_from(["conv", "max_filter", "dropout", "crop", "maxout", "sum"]))
        if kind == "conv":
            net = net.conv(f"c{i}", width, size, "tanh", node=f"n{i}")
        elif kind == "max_filter":
            net = net.max_filter(f"f{i}", (1, 2, 2), (1, 2, 2), node=f"n{i}")
        elif kind == "dropout":
            net = net.dropout(f"d{i}", 0.5, node=f"n{i}")
        elif kind == "crop":
            net = net.crop(f"r{i}", (0, 1, 1), node=f"n{i}")
        else:
            for branch in ("a", "b"):
                net = net.conv(
                    f"c{i}{branch}", width, size, "tanh", source=before, node=f"n{i}{branch}"
                )
            net = getattr(net, kind)(f"n{i}", f"n{i}a", f"n{i}b")
        before = f"n{i}"
    return net.conv("last", 2, (1, 2, 2), "linear", source=before, node="output")


def execution(net: Network, mode: str) -> Execution:
    every = frozenset(edge.name for edge in net.conv_edges)
    return {
        "kept": Execution(),
        "prompt": Execution(prompt=True),
        "recomputed": Execution(recomputed=every),
        "least": Execution(recomputed=every, prompt=True, steps_ahead=0),
    }[mode]


def context(net: Network, size: tuple[int, int, int], algorithm: str, mode: str) -> TrainingSpec:
    arithmetic = choose_arithmetic(net, size, algorithm=algorithm)
    source = noise_source(net, size)
    chosen = execution(net, mode)
    layers = compile_layers(net, arithmetic)
    chosen = replace(chosen, recomputed=frozenset(filter(layers.transformed, chosen.recomputed)))
    return TrainingSpec(net, arithmetic, "square", source, seed=3, execution=chosen)


def trained(spec: TrainingSpec, engine: Engine, steps: int) -> State:
    made = Context(spec, engine)
    state = work.new_state(made, initial_parameters(spec.network, 0, "float32"), None, 0)
    state = work.train(made, state, 0, (RULE,) * steps)
    engine.wait(state.jobs.values())
    return state


def lent(state: State) -> int:
    """Bytes that the arrays of a state take of the pool."""
    groups = (state.kernels, state.velocities, state.biases, state.bias_velocities, state.spectra)
    sizes = []
    for array in (array for group in groups for array in group.values()):
        while isinstance(array.base, np.ndarray):
            array = array.base
        sizes.append(getattr(array.base, "size", 0))
    return sum(sizes)


def assert_equal(arrays: Parameters, others: Parameters) -> None:
    assert arrays.keys() == others.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, others[name], err_msg=name)


@pytest.fixture(scope="module", params=[1, 2], ids=["1 thread", "2 threads"])
def engine(request):
    engine = Engine(request.param)
    yield engine
    engine.close()


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    net=networks(),
    size=st.sampled_from([(2, 5, 4), (3, 24, 20)]),
    algorithm=st.sampled_from(ALGORITHMS),
    mode=st.sampled_from(["kept", "prompt", "recomputed", "least"]),
)
def test_after_a_step_nothing_but_the_survivors_is_alive(net, size, algorithm, mode, engine):
    gc.collect()
    before = memory.lent_bytes()
    spec = context(net, size, algorithm, mode)
    made = Context(spec, engine)
    state = work.new_state(made, initial_parameters(net, 0, "float32"), None, 0)
    tape = work.forward(made, state, work.load(made, 0, 0))
    gradients = work.backward(made, state, tape)
    engine.wait(gradients.jobs.values())
    assert tape.patch is None
    alive = {store: set(getattr(tape, store)) for store in STORES if getattr(tape, store)}
    assert alive == {"maps": {"output"}}

    tape = work._validation_tape(made, spec.source, 0, 0)
    made.program.forward(state, tape)
    engine.wait(tape.jobs.values())
    alive = {store: set(getattr(tape, store)) for store in STORES if getattr(tape, store)}
    assert alive == {"maps": {"output"}}

    del tape, gradients
    state = work.train(made, state, 0, (RULE,) * 3)
    engine.wait(state.jobs.values())
    assert memory.lent_bytes() - before == lent(state)


@pytest.mark.parametrize("name", ["branched", "pooled", "tiny"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_kept_changes_no_bit(name, algorithm, engine):
    net, size = NETWORKS[name]
    size = tuple(min(n, 14) for n in size)
    kept = trained(context(net, size, algorithm, "kept"), engine, 3)
    for mode in ("prompt", "recomputed", "least"):
        other = trained(context(net, size, algorithm, mode), engine, 3)
        assert_equal(kept.parameters(), other.parameters())
        assert_equal(kept.momenta(), other.momenta())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("mode", ["kept", "prompt", "recomputed"])
def test_the_table_names_tasks_that_there_are(name, mode):
    net, size = NETWORKS[name]
    layers = compile_layers(net, choose_arithmetic(net, size, algorithm="tiled"))
    chosen = execution(net, mode)
    chosen = replace(chosen, recomputed=frozenset(filter(layers.transformed, chosen.recomputed)))
    tasks = expand(layers, TaskCost(layers), execution=chosen)
    ids = [task.id for task in tasks]
    assert len(set(ids)) == len(ids)
    for i, task in enumerate(tasks):
        assert set(task.needs) <= set(ids[:i])
    arrays = tape_arrays(layers, chosen)
    assert len({array.id for array in arrays}) == len(arrays)
    for array in arrays:
        assert array.users
        assert set(array.users) <= set(ids)
        assert array.bytes >= 0


def test_patches_of_a_batch_do_not_pile_up(monkeypatch):
    """Without gaps to fill, a thread would leave the kernel gradients of all patches for later."""
    net, size = NETWORKS["pooled"]
    spec = context(net, size, "tiled", "kept")
    spectra = weakref.WeakSet()
    most = []

    class Tape(passes.Tape):
        __hash__ = object.__hash__

        def done(self, task):
            spectra.add(self)
            most.append(sum(bool(tape.gradient_spectra) for tape in spectra))
            super().done(task)

    monkeypatch.setattr(program, "Tape", Tape)
    for mode, limit in (("kept", 2), ("prompt", 1)):
        most.clear()
        engine = Engine(1)
        try:
            trained(replace(spec, batch=6, execution=execution(net, mode)), engine, 2)
        finally:
            engine.close()
        assert max(most) == limit


def test_a_superseded_state_can_be_read_again(engine):
    """As by a validation that was submitted before the next update and runs after it."""
    net, size = NETWORKS["tiny"]
    made = Context(context(net, size, "tiled", "kept"), engine)
    state = work.new_state(made, initial_parameters(net, 0, "float32"), None, 0)
    first = work.gather(made, *_passes(made, state))[0]
    later = work.train(made, state, 0, (RULE,))
    engine.wait(later.jobs.values())
    assert not state.spectra
    again = work.gather(made, *_passes(made, state))[0]
    np.testing.assert_array_equal(first["output"], again["output"])
    assert not state.spectra


def _passes(made: Context, state: State):
    tape = work.forward(made, state, work.load(made, 0, 0))
    return tape, work.backward(made, state, tape)


def test_a_failure_releases_everything(engine):
    net, size = NETWORKS["pooled"]
    gc.collect()
    before = memory.lent_bytes()

    class BrokenError(RuntimeError):
        pass

    def fails() -> None:
        spec = context(net, size, "tiled", "kept")
        made = Context(spec, engine)

        def loss(*_):
            raise BrokenError("no loss")

        made.loss = loss
        state = work.new_state(made, initial_parameters(net, 0, "float32"), None, 0)
        with pytest.raises(TaskError, match="no loss"):
            work.train(made, state, 0, (RULE,) * 5)

    fails()
    until = time.monotonic() + 20
    while memory.lent_bytes() != before and time.monotonic() < until:
        gc.collect()
        time.sleep(0.02)  # what was running may still end
    assert memory.lent_bytes() == before
