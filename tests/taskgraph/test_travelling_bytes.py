"""What Dask is told of the size of gradients and states, while their arrays are on their way."""

import pickle
import threading

import numpy as np

from znn_dask.cluster import work
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.network import Network
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.state import UpdateRule
from znn_dask.training.initial import initial_parameters

SIZE = (1, 4, 4)
NETWORK = Network().input().conv("c1", 3, (1, 2, 2)).conv("c2", 2, (1, 2, 2), "linear")


def nbytes(*groups: dict[str, np.ndarray]) -> int:
    return sum(values.nbytes for group in groups for values in group.values())


def test_sizes_are_known_before_the_arrays_are_there():
    source, patch_may_come = noise_source(NETWORK, SIZE), threading.Event()
    spec = TrainingSpec(NETWORK, choose_arithmetic(NETWORK, SIZE), "square", source)
    engine = Engine(1)

    def patch():
        assert patch_may_come.wait(30)
        return source.patch(0)

    try:
        made = Context(spec, engine)
        state = work.new_state(made, initial_parameters(NETWORK, 0, "float32"), None, 0)
        tape = made.program.load(patch, (0, 0), ())
        work.begin_forward(made, state, tape)
        gradients = made.program.backward(state, tape)
        summed = made.program.add(gradients, gradients, (0, 0))
        after = made.program.update(state, summed, UpdateRule(0.1, 0.9, 0.0, 1.0))
        early = [each.__sizeof__() for each in (gradients, summed, state, after)]
        assert not any(each.biases for each in (gradients, summed, after))
        patch_may_come.set()
        engine.wait([*gradients.jobs.values(), *summed.jobs.values(), *after.jobs.values()])
        copies = [pickle.loads(pickle.dumps(each)) for each in (gradients, summed, state, after)]
    finally:
        patch_may_come.set()
        engine.close()
    of_gradients = [nbytes(each.kernels, each.biases) for each in (gradients, summed)]
    of_states = [
        nbytes(each.kernels, each.velocities, each.biases, each.bias_velocities)
        for each in (state, after)
    ]
    assert early == of_gradients + of_states
    assert early == [each.__sizeof__() for each in copies]
