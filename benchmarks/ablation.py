"""What ZNN's rule is worth: other policies on the same tasks, simulated and measured.

    OPENBLAS_NUM_THREADS=1 python benchmarks/ablation.py [--only N4,w40] [--write]

Prints three tables: seconds per step as multiples of the lower bound max(work / threads, critical
path) for every policy, simulated; the same policies on the real engine; and ZNN's rule wherever
the bound can be reached, for all networks. The simulation counts with the cost table, not with
times of this machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

from networks import Case, cases
from policies import policies
from results import table, write_section
from threadpoolctl import threadpool_limits

from znn_dask.cluster import work
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.plan import Plan, plan
from znn_dask.taskgraph.rule import Rule
from znn_dask.taskgraph.schedule import simulate
from znn_dask.taskgraph.state import State, UpdateRule
from znn_dask.training.initial import initial_parameters

SIMULATED = (
    "slide_3L_w5_k5,slide_4L_w16_k5,wide4_w40,bench_3d_3,bench_3d_7,srini2d,N4_relu,VD2D3D,"
    "scalability_4L_w40"
)
MEASURED = "slide_3L_w5_k5,slide_4L_w16_k5,bench_3d_3,N4_relu,scalability_4L_w40"
MACHINES = ((2, 1), (8, 4), (32, 16), (128, 64))  # (threads, patches of a step)
UNBOUND = (2, 8, 32)
PATH = 4.0  # the bound should be reached where work / threads is so many critical paths
UPDATE = UpdateRule(1e-6, 0.9, 0.0, 1e-6)  # noise teaches nothing: stay where numbers are ordinary
ROUNDS = 5

Table = tuple[list[str], list[list[object]]]


def planned(case: Case) -> Plan:
    return plan(case.network, case.output_size, threads=2, slowness=1.0)


def simulated(only: str) -> Table:
    """Multiples of the bound, one row per network and machine."""
    rows: list[list[object]] = []
    header: list[str] = []
    for case in cases(only=only):
        tasks = planned(case).tasks
        for threads, patches in MACHINES:
            runs = {
                name: simulate(tasks, threads, patches=patches, rule=rule)
                for name, rule in policies(tasks).items()
            }
            header = ["network", "threads", "patches", "work / threads / path", *runs]
            znn = runs["ZNN"]
            share = znn.work / threads / znn.critical_path
            ratios = [f"{1 + run.over_bound:.2f}" for run in runs.values()]
            rows.append([case.name, threads, patches, f"{share:.1f}", *ratios])
    return header, rows


def near_the_bound(only: str) -> Table:
    """ZNN's rule with the fewest patches (a power of two) that make the bound one of work."""
    rows = []
    for case in cases(only=only):
        tasks = planned(case).tasks
        cells = []
        for threads in UNBOUND:
            patches = 1
            one = simulate(tasks, threads, steps=1)
            while patches * one.work / threads < PATH * one.critical_path:
                patches *= 2
            run = simulate(tasks, threads, patches=patches)
            cells.append(f"{run.over_bound:+.1%} ({patches})")
        rows.append([case.name, len(tasks), *cells])
    return ["network", "tasks", *(f"{threads} threads (patches)" for threads in UNBOUND)], rows


class Bench:
    """One network on an engine of each policy, all from one initial state."""

    def __init__(self, made: Plan, threads: int) -> None:
        source = noise_source(made.network, made.arithmetic.output_size)
        spec = TrainingSpec(made.network, made.arithmetic, "square", source)
        self.contexts = {
            name: Context(spec, Engine(threads, 1 << 20, rule))
            for name, rule in policies(made.tasks).items()
        }
        self.threads = threads
        parameters = initial_parameters(made.network, 0, made.arithmetic.dtype)
        self.state: State = work.new_state(self.contexts["ZNN"], parameters, None, 0)

    def run(self, name: str, steps: int) -> tuple[float, float, float]:
        """(seconds, idle share, forced jobs) per step."""
        context = self.contexts[name]
        context.engine.timeline.clear()
        begin = time.perf_counter()
        state = work.train(context, self.state, 0, (UPDATE,) * steps)
        context.engine.wait(state.jobs.values())
        seconds = time.perf_counter() - begin
        spans = list(context.engine.timeline)
        busy = sum(span.end - span.start for span in spans) / (self.threads * seconds)
        return seconds / steps, 1 - busy, sum(span.forced for span in spans) / steps

    def close(self) -> None:
        for context in self.contexts.values():
            context.engine.close()


def measured(only: str, seconds: float) -> Table:
    """Interleaved rounds on 1 and 2 real threads, medians; about `seconds` for each network."""
    rows: list[list[object]] = []
    header: list[str] = []
    for case in cases(only=only):
        made = planned(case)
        rules: dict[str, Callable[[], Rule]] = policies(made.tasks)
        header = ["network", "threads", "", *rules]
        for threads in (1, 2):
            rows += _rounds(case.name, made, rules, threads, seconds / 2)
    return header, rows


def _rounds(
    name: str, made: Plan, rules: dict[str, Callable[[], Rule]], threads: int, seconds: float
) -> Iterator[list[object]]:
    bench = Bench(made, threads)
    for policy in rules:
        once = bench.run(policy, 2)[0]  # plans FFTs, fills the pool of memory
    steps = max(2, round(seconds / (ROUNDS * len(rules) * once)))
    runs: dict[str, list[tuple[float, float, float]]] = {policy: [] for policy in rules}
    for _ in range(ROUNDS):
        for policy in rules:
            runs[policy].append(bench.run(policy, steps))
    bench.close()
    middle = {p: [statistics.median(v) for v in zip(*r, strict=True)] for p, r in runs.items()}
    ratios = {
        policy: sorted(a[0] / b[0] for a, b in zip(mine, runs["ZNN"], strict=True))
        for policy, mine in runs.items()
    }
    ours = simulate(made.tasks, threads).step_seconds
    model = {p: simulate(made.tasks, threads, rule=rule).step_seconds for p, rule in rules.items()}
    yield [name, threads, "ms per step", *(f"{m[0] * 1e3:.1f}" for m in middle.values())]
    yield ["", "", "to ZNN's, measured", *(_spread(values) for values in ratios.values())]
    yield ["", "", "to ZNN's, simulated", *(f"{s / ours:.2f}" for s in model.values())]
    yield ["", "", "idle", *(f"{m[1]:.0%}" for m in middle.values())]
    yield ["", "", "forced jobs per step", *(f"{m[2]:.0f}" for m in middle.values())]


def _spread(ratios: list[float]) -> str:
    """Median of the rounds' ratios, and their range without the extremes."""
    return f"{statistics.median(ratios):.2f} ({ratios[1]:.2f}-{ratios[-2]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="words that names of networks contain")
    parser.add_argument("--seconds", type=float, default=12.0, help="for each measured network")
    parser.add_argument("--simulate", action="store_true", help="measure nothing")
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    options = parser.parse_args()
    parts = [
        SIMULATION + table(*simulated(options.only or SIMULATED)),
        BOUND + table(*near_the_bound(options.only)),
    ]
    if not options.simulate:
        parts.insert(1, MEASUREMENT + table(*measured(options.only or MEASURED, options.seconds)))
    text = "\n\n".join(parts)
    print(text)
    if options.write:
        write_section("What ZNN's rule is worth", text)


SIMULATION = """\
`python benchmarks/ablation.py --write`. Policies: **ZNN** (longest remaining path, two types,
FORCE); **unforced** (the same without FORCE); **FIFO** and **LIFO** by when a task becomes ready;
**Dask order** (static ranks of `dask.order`); **barriers** (each layer's pass ends before the next
begins, gradients and updates after the last). Seconds per step as multiples of the lower bound
max(work / threads, critical path), simulated with the counted cost table:

"""
MEASUREMENT = """\
On real threads, the same jobs by the same engine with another rule: medians of five interleaved
rounds, and of each round's ratios with their range without the two extremes. On one thread all
policies do the same work, so what differs there is the noise of the measurement:

"""
BOUND = """\
ZNN's rule where work / threads is at least four times the critical path: how much longer than the
bound a step is, simulated, with the fewest patches per step (a power of two) for which that holds.
What is below zero is the error of six simulated steps:

"""


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
