"""Predicted and measured peak memory of training and of forward passes; what recomputing costs.

    OPENBLAS_NUM_THREADS=1 python benchmarks/memory.py [--only wide4,N4] [--threads 1,2] [--write]

Every figure is of a fresh process: its peak resident memory after a few passes less what it had
when everything was imported. "kept" is the default; "recomputed" makes all input spectra again and
takes kernel gradients promptly. At the end: whether memory grows between 200 and 2000 updates.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache

from networks import Case, cases
from results import table, write_section
from threadpoolctl import threadpool_limits

from znn_dask.bench.machine import peak_rss, rss
from znn_dask.cluster import work
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.taskgraph.arithmetic import Arithmetic
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.execution import Execution
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.machine import processor
from znn_dask.taskgraph.plan import Plan, plan
from znn_dask.taskgraph.state import State, UpdateRule
from znn_dask.training.initial import initial_parameters

TITLE = "Peak memory, predicted and measured"
MODES = ("kept", "recomputed", "forward")
UPDATES = 3
PATCHES = 4
UNDER_WAY = 2  # forward passes at once
RULE = UpdateRule(1e-6, 0.9, 0.0, 1e-6)
GROWTH_CASE = "slide_3L_w5_k5"


@dataclass(frozen=True)
class Figures:
    """Bytes above the idle process, and seconds of an update or a forward pass."""

    predicted: int
    measured: int
    seconds: float

    @property
    def ratio(self) -> float:
        return self.predicted / self.measured


@cache
def arithmetic(case: Case, training: bool) -> Arithmetic:
    """Chosen once for all processes."""
    return choose_arithmetic(case.network, case.output_size, training=training)


def planned(case: Case, mode: str, threads: int) -> Plan:
    training = mode != "forward"
    chosen = arithmetic(case, training)
    made = plan(
        case.network, case.output_size, threads=threads, arithmetic=chosen, training=training
    )
    if mode == "recomputed":
        edges = frozenset(filter(made.layers.transformed, made.layers.convolutions))
        made = replace(made, execution=Execution(edges, prompt=True))
    return made


def start(made: Plan) -> tuple[Context, State]:
    source = noise_source(made.network, made.arithmetic.output_size)
    spec = TrainingSpec(made.network, made.arithmetic, "square", source, execution=made.execution)
    context = Context(spec, Engine(made.threads))
    parameters = initial_parameters(made.network, 0, "float32")
    return context, work.new_state(context, parameters, None, 0)


def train(context: Context, state: State, updates: int) -> State:
    state = work.train(context, state, state.step, (RULE,) * updates)
    context.engine.wait(state.jobs.values())
    return state


def forward(context: Context, state: State, patches: int) -> None:
    tapes = []
    for index in range(patches):
        tape = context.program.load(
            lambda: context.spec.source.patch(0), (0, index), training=False
        )
        context.program.forward(state, tape)
        tapes.append(tape)
        if len(tapes) == UNDER_WAY:
            context.engine.wait(tapes.pop(0).jobs.values())
    for tape in tapes:
        context.engine.wait(tape.jobs.values())


@threadpool_limits.wrap(limits=1)
def measure(made: Plan) -> tuple[int, float]:
    """In a process of its own: the peak above idle that a few passes leave, and their seconds."""
    idle = rss()
    context, state = start(made)
    if not made.training:
        forward(context, state, 1)
        begun = time.perf_counter()
        forward(context, state, PATCHES)
        seconds = (time.perf_counter() - begun) / PATCHES
    else:
        state = train(context, state, 1)
        begun = time.perf_counter()
        train(context, state, UPDATES)
        seconds = (time.perf_counter() - begun) / UPDATES
    return peak_rss() - idle, seconds


@threadpool_limits.wrap(limits=1)
def growth(made: Plan) -> tuple[int, int]:
    """Resident bytes after 200 and after 2000 updates."""
    context, state = start(made)
    state = train(context, state, 200)
    early = rss()
    train(context, state, 1800)
    return early, rss()


def rows(
    executor: ProcessPoolExecutor, only: str, threads: list[int], all_figures: list[Figures]
) -> Iterator[list[str]]:
    for case in cases(only=only):
        for count in threads:
            found = {}
            for mode in MODES:
                made = planned(case, mode, count)
                predicted = made.bytes
                # Without what planning has cached: workers get no plan.
                found[mode] = Figures(predicted, *executor.submit(measure, replace(made)).result())
            all_figures += found.values()
            cells = [case.name, str(count)]
            for figures in found.values():
                cells += [f"{figures.predicted / 1e6:.0f}", f"{figures.measured / 1e6:.0f}"]
                cells.append(f"{figures.ratio:.2f}")
            again = found["recomputed"].seconds / found["kept"].seconds
            cells += [f"{found['kept'].seconds * 1e3:.0f}", f"{again:.2f}"]
            print(" | ".join(cells), flush=True)
            yield cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="words of case names, comma-separated")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, comma-separated")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    threads = [int(count) for count in options.threads.split(",")]
    context = multiprocessing.get_context("forkserver")  # it has imported all, and done nothing
    all_figures: list[Figures] = []
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as executor:
        header = ["network", "threads"]
        for mode in MODES:
            header += [f"{mode}: predicted, MB", "measured, MB", "ratio"]
        header += ["update kept, ms", "recomputed / kept"]
        body = list(rows(executor, options.only, threads, all_figures))
        small = planned(next(cases(only=GROWTH_CASE)), "kept", 2)
        early, late = executor.submit(growth, small).result()
    errors = [abs(figures.ratio - 1) for figures in all_figures]
    within = sum(error <= 0.2 for error in errors)
    text = "\n\n".join(
        [
            f"Above the idle process; fresh processes, float32, {processor()}:",
            "    OPENBLAS_NUM_THREADS=1 python benchmarks/memory.py",
            table(header, body),
            f"Median of |ratio - 1|: {statistics.median(errors):.0%}; {within} of {len(errors)} "
            f"within 20 %, the worst {max(errors):.0%} off.",
            f"{GROWTH_CASE}: {early / 1e6:.1f} MB resident after 200 updates, {late / 1e6:.1f} MB "
            "after 2000.",
        ]
    )
    print(text)
    if options.write:
        write_section(TITLE, text)


if __name__ == "__main__":
    main()
