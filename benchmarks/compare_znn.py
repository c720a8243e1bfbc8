"""znn_dask's side of `compare.py`: updates and forward passes of one network."""

import time
from contextlib import ExitStack
from typing import Any

import numpy as np
from contender import resident, serve
from roofline import Peaks, work_of
from threadpoolctl import threadpool_limits

from znn_dask.bench.runs import make_runs
from znn_dask.cluster import work
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.kernels import memory
from znn_dask.kernels.geometry import Triple
from znn_dask.kernels.layout import map_to_znn
from znn_dask.network import parse_znn
from znn_dask.taskgraph import ForwardPass
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.layers import compile_layers
from znn_dask.taskgraph.plan import plan
from znn_dask.training.initial import initial_parameters


class Side:
    """What `compare.py` asks for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(self, text: str, output_size: Triple, threads: int) -> None:
        """The network of this .znn text, an output patch (z, y, x), so many threads."""
        network, size = parse_znn(text), (output_size[0], output_size[1], output_size[2])
        source = noise_source(network, size)
        before = resident()
        made = plan(network, size, threads=threads)
        planning = resident() - before
        self._spec = TrainingSpec(network, made.arithmetic, "square", source)
        self._threads, self._layers = threads, made.layers
        # Idle: all is imported, and Dask waits for work. What planning took is part of the job.
        self._runs, idle = make_runs(self._stack, made, self._spec, threads, False)
        self._idle = idle - planning
        self._forward: ForwardPass | None = None

    def first(self, path: str, text: str) -> float:
        """Seconds of the first forward and backward pass; what went in and came out in a file.

        `text` is the network without dropout, whose masks nobody can repeat.
        """
        network, source = parse_znn(text), self._spec.source
        parameters = initial_parameters(network)
        engine = Engine(self._threads)
        spec = TrainingSpec(network, self._spec.arithmetic, self._spec.loss, source)
        begin = time.perf_counter()
        outputs, gradients = work.passes(Context(spec, engine), parameters)
        seconds = time.perf_counter() - begin
        engine.close()
        patch = source.patch(0)
        arrays: dict[str, np.ndarray] = {}
        for kind, values in (
            ("parameter", parameters),
            ("input", {name: map_to_znn(values) for name, values in patch.inputs.items()}),
            ("target", {name: map_to_znn(values) for name, values in patch.targets.items()}),
            ("output", outputs),
            ("gradient", gradients),
        ):
            arrays |= {f"{kind}/{name}": array for name, array in values.items()}
        np.savez(path, **arrays)  # type: ignore[arg-type]
        del arrays, outputs, gradients, parameters
        memory.trim()
        return seconds

    def run(self, kind: str, count: int) -> float:
        """Seconds of one of `count` updates, or forward passes one after the other."""
        return self._forwards(count) if kind == "forward" else self._runs[kind](count)

    def _forwards(self, count: int) -> float:
        if self._forward is None:
            network, size = self._spec.network, self._spec.arithmetic.output_size
            self._forward = ForwardPass(network, initial_parameters(network), size)
            self._engine = Engine(self._threads)
            self._stack.callback(self._engine.close)
        inputs = self._spec.source.patch(0).inputs
        begin = time.perf_counter()
        for _ in range(count):
            self._forward(inputs, self._engine)
        return (time.perf_counter() - begin) / count

    def memory(self) -> int:
        """Bytes above the idle process, at most."""
        return resident(peak=True) - self._idle

    def roofline(self, threads: int, sgemm: float, transform: float) -> list[float]:
        """Seconds of an update and of a forward pass at these peaks."""
        limits = Peaks(threads, sgemm, transform)
        assert self._forward is not None
        forward = compile_layers(self._spec.network, self._forward.arithmetic)
        return [
            work_of(self._layers).seconds(limits),
            work_of(forward, training=False).seconds(limits),
        ]


def main() -> None:
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1))
        side = Side(stack)
        names = ("start", "first", "run", "memory", "roofline")
        functions: dict[str, Any] = {name: getattr(side, name) for name in names}
        serve(functions)


if __name__ == "__main__":
    main()
