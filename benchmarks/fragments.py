"""Small output patches of max-filter networks: maps computed at every voxel, or fragments of them.

    OPENBLAS_NUM_THREADS=1 python benchmarks/fragments.py [--only VD2D,N4] [--write]

Milliseconds of an update on one thread, least of the rounds, both ways in turn; and the share of
the multiplications that is left. "planned" says what the planner takes.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from networks import cases
from results import table, write_section
from threadpoolctl import threadpool_limits

from znn_dask.cluster import work
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network
from znn_dask.taskgraph.choice import choose_arithmetic, fragments_pay, multiplications
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.state import UpdateRule
from znn_dask.training.initial import initial_parameters

ONLY = "N4_relu,VD2D,wide4_w40"
PATCHES = (1, 2, 4, 8)
ROUNDS = 4
HEADER = (
    *("network", "patch", "multiplications left"),
    *("every voxel", "fragments", "ratio", "planned"),
)
RULE = UpdateRule(1e-6, 0.9, 0.0, 1e-6)  # noise teaches nothing: stay where numbers are ordinary


class Update:
    """Updates of a network on one thread, one patch after the other."""

    def __init__(self, network: Network, output_size: Triple, engine: Engine, *, fragments: bool):
        arithmetic = choose_arithmetic(network, output_size, fragments=fragments)
        spec = TrainingSpec(network, arithmetic, "square", noise_source(network, output_size))
        self._context = Context(spec, engine)
        self._state = work.new_state(self._context, initial_parameters(network), None, 0)
        self.milliseconds()

    def milliseconds(self) -> float:
        begin = time.perf_counter()
        self._state = work.train(self._context, self._state, self._state.step, (RULE,))
        self._context.engine.wait(self._state.jobs.values())
        return 1e3 * (time.perf_counter() - begin)


@contextmanager
def one_thread() -> Iterator[Engine]:
    engine = Engine(1)
    try:
        yield engine
    finally:
        engine.close()


def row(name: str, network: Network, output_size: Triple) -> list[object]:
    with one_thread() as engine:
        ways = [Update(network, output_size, engine, fragments=f) for f in (False, True)]
        times = [[way.milliseconds() for way in ways] for _ in range(ROUNDS)]
    every, read = map(min, zip(*times, strict=True))
    counts = [multiplications(network, output_size, fragments=f) for f in (False, True)]
    planned = "fragments" if fragments_pay(network, output_size) else "every voxel"
    share = f"{counts[1] / counts[0]:.0%}"
    patch = ",".join(map(str, output_size))
    return [name, patch, share, f"{every:.1f}", f"{read:.1f}", f"{every / read:.2f}", planned]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=ONLY, help="words that names of networks contain")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    rows = []
    with ExitStack() as stack:
        stack.enter_context(threadpool_limits(1))
        for case in cases(only=options.only):
            flat = case.network.field_of_view[0] == 1
            for n in PATCHES:
                rows.append(row(case.name, case.network, (1 if flat else n, n, n)))
                print(*rows[-1], flush=True)
    text = table(HEADER, rows)
    print(text)
    if options.write:
        about = __doc__.split("\n\n")[2]
        write_section("Fragments of max-filter networks", f"{about}\n\n{text}")


if __name__ == "__main__":
    main()
