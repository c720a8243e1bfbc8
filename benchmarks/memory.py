"""Predicted and measured peak memory of training and of forward passes; what recomputing costs.

    OPENBLAS_NUM_THREADS=1 python benchmarks/memory.py [--only wide4,N4] [--threads 2] [--write]

Every figure is of a fresh process: its peak resident memory after a few passes less what it had
when everything was imported. "kept" is the default; "recomputed" makes all input spectra again and
goes back layer by layer; "batch of 4" keeps spectra too, in updates over four patches. Batches and
forward passes are measured on the last of the numbers of threads.
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
NETWORKS = "wide4,N4,bench_3d_5,bench_3d_7,VD2D3D,srini2d,slide_4L"
BATCH = 4
MODES = ("kept", "recomputed", f"batch of {BATCH}", "forward")
GOALS = {
    ("wide4_w40_k5_cmcmcc", "kept"): 1000,
    ("wide4_w40_k5_cmcmcc", "recomputed"): 300,
    ("N4_relu", "kept"): 1000,
}
"""Megabytes; ZNN takes 2700 for wide4 and 2800 for N4."""

SECONDS = 1.0  # of updates or passes that are measured, after one that compiles
LEAST = 3
UNDER_WAY = 2  # forward passes at once
RULE = UpdateRule(1e-6, 0.9, 0.0, 1e-6)


@dataclass(frozen=True)
class Figures:
    """Bytes above the idle process, and seconds of a patch."""

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
    made = plan(
        case.network,
        case.output_size,
        threads=threads,
        patches=BATCH if mode.startswith("batch") else 1,
        arithmetic=arithmetic(case, training),
        training=training,
    )
    if mode == "recomputed":
        edges = frozenset(filter(made.layers.transformed, made.layers.convolutions))
        made = replace(made, execution=Execution(edges, prompt=True))
    return made


@threadpool_limits.wrap(limits=1)
def measure(made: Plan) -> tuple[int, float]:
    """In a process of its own: the peak above idle that some passes leave, and seconds of one."""
    idle = rss()
    source = noise_source(made.network, made.arithmetic.output_size)
    spec = TrainingSpec(
        *(made.network, made.arithmetic, "square", source),
        batch=made.patches,
        execution=made.execution,
    )
    context = Context(spec, Engine(made.threads))
    state = work.new_state(context, initial_parameters(made.network, 0, "float32"), None, 0)
    run = train if made.training else forward
    state = run(context, state, 1)
    patches, begun = 0, time.perf_counter()
    while patches < LEAST or time.perf_counter() - begun < SECONDS:
        state = run(context, state, LEAST)
        patches += LEAST * made.patches
    return peak_rss() - idle, (time.perf_counter() - begun) / patches


def train(context: Context, state: State, updates: int) -> State:
    state = work.train(context, state, state.step, (RULE,) * updates)
    context.engine.wait(state.jobs.values())
    return state


def forward(context: Context, state: State, patches: int) -> State:
    tapes = []
    for index in range(patches):
        patch = context.spec.source.patch(0)
        tape = context.program.load(lambda p=patch: p, (0, index), training=False)
        context.program.forward(state, tape)
        tapes.append(tape)
        if len(tapes) == UNDER_WAY:
            context.engine.wait(tapes.pop(0).jobs.values())
    for tape in tapes:
        context.engine.wait(tape.jobs.values())
    return state


def rows(
    executor: ProcessPoolExecutor, only: str, threads: list[int], all_figures: list[Figures]
) -> Iterator[list[str]]:
    for case in cases(only=only):
        for count in threads:
            kept = 0.0
            for mode in MODES if count == threads[-1] else MODES[:2]:
                made = planned(case, mode, count)
                predicted = made.bytes
                # Without what planning has cached: workers get no plan.
                found = Figures(predicted, *executor.submit(measure, replace(made)).result())
                all_figures.append(found)
                kept = kept or found.seconds
                goal = GOALS.get((case.name, mode))
                cells = [
                    *(case.name, str(count), mode),
                    *(f"{nbytes / 1e6:.0f}" for nbytes in (found.predicted, found.measured)),
                    f"{found.ratio:.2f}",
                    f"{found.seconds * 1e3:.3g}",
                    f"{found.seconds / kept:.2f}" if made.training else "",
                    f"below {goal}" if goal else "",
                ]
                print(" | ".join(cells), flush=True)
                yield cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=NETWORKS, help="words of case names, comma-separated")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, comma-separated")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    threads = [int(count) for count in options.threads.split(",")]
    context = multiprocessing.get_context("forkserver")  # it has imported all, and done nothing
    all_figures: list[Figures] = []
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as executor:
        body = list(rows(executor, options.only, threads, all_figures))
    errors = [abs(figures.ratio - 1) for figures in all_figures]
    within = sum(error <= 0.2 for error in errors)
    header = [
        *("network", "threads", "mode", "predicted, MB", "measured, MB", "predicted / measured"),
        *("ms per patch", "time / kept", "goal, MB"),
    ]
    text = "\n\n".join(
        [
            f"Above the idle process; fresh processes, float32, {processor()}:",
            "    OPENBLAS_NUM_THREADS=1 python benchmarks/memory.py",
            table(header, body),
            f"Median of |ratio - 1|: {statistics.median(errors):.0%}; {within} of {len(errors)} "
            f"within 20 %, the worst {max(errors):.0%} off.",
        ]
    )
    print(text)
    if options.write:
        write_section(TITLE, text)


if __name__ == "__main__":
    main()
