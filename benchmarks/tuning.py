"""The default plan against the tuned one: what the cost table loses on this machine.

    OPENBLAS_NUM_THREADS=1 python benchmarks/tuning.py [--only slide,N4] [--write]

Every conv layer is tuned (`znn_dask.taskgraph.tuning`), for `--seconds` per network at most. Where
a method was faster beyond doubt, updates by the default and by the tuned arithmetic run in turn on
an engine of `--threads` threads, without Dask. cost_table.py lists what single methods take, beside
what the cost table counts.
"""

import argparse
import math
import statistics
import time
from collections.abc import Sequence

import numpy as np
from networks import SECTION_9, Case, cases
from results import table, write_section
from threadpoolctl import threadpool_limits

from znn_dask.cluster import work
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.taskgraph import Arithmetic
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.machine import processor
from znn_dask.taskgraph.state import UpdateRule
from znn_dask.taskgraph.tuning import Tuned, tune
from znn_dask.training.initial import initial_parameters

TITLE = "Default plan against tuned plan"
RULE = UpdateRule(1e-6, 0.9, 0.0, 1e-6)  # noise teaches nothing: stay where numbers are ordinary
ROUNDS = 7
ROUND_SECONDS = 0.3


class Updates:
    """Updates of one network by one arithmetic, on an engine of this process."""

    def __init__(self, case: Case, arithmetic: Arithmetic, threads: int) -> None:
        source = noise_source(case.network, case.output_size)
        spec = TrainingSpec(case.network, arithmetic, "square", source)
        self._context = Context(spec, Engine(threads))
        parameters = initial_parameters(case.network, 0, arithmetic.dtype)
        self._state = work.new_state(self._context, parameters, None, 0)

    def run(self, count: int) -> float:
        """Seconds of one of `count` updates."""
        context = self._context
        begin = time.perf_counter()
        self._state = work.train(context, self._state, self._state.step, (RULE,) * count)
        context.engine.wait(self._state.jobs.values())
        return (time.perf_counter() - begin) / count

    def close(self) -> None:
        self._context.engine.close()


def in_turn(case: Case, pair: Sequence[Arithmetic], threads: int) -> list[list[float]]:
    """Seconds per update of each arithmetic, in interleaved rounds."""
    sides = [Updates(case, arithmetic, threads) for arithmetic in pair]
    try:
        for side in sides:
            side.run(2)
        counts = [max(1, round(ROUND_SECONDS / side.run(1))) for side in sides]
        taken: list[list[float]] = [[] for _ in sides]
        for _ in range(ROUNDS):
            for side, count, times in zip(sides, counts, taken, strict=True):
                times.append(side.run(count))
    finally:
        for side in sides:
            side.close()
    return taken


def losses(tuned: Tuned) -> list[float]:
    """Of each measured layer: by how much the default is slower than the best typical method."""
    found = []
    for contest in tuned.contests.values():
        if contest.default in contest.seconds:
            typical = contest.typical
            found.append(typical[contest.default] / min(typical.values()) - 1)
    return found


def compare(case: Case, tuned: Tuned, threads: int) -> tuple[str, float]:
    """Row of the table, and default / tuned."""
    default = choose_arithmetic(case.network, case.output_size)
    changed = [name for name, source in tuned.sources.items() if source == "tuned"]
    lost = losses(tuned)
    worst = f"{max(lost):.0%}" if lost else ""
    measured = f"{len(lost)} of {len(tuned.contests)}"
    if default == tuned.arithmetic:
        row = (case.name, measured, "", "", "", "1.00", worst)
        return row, 1.0
    taken = in_turn(case, (default, tuned.arithmetic), threads)
    before, after = (statistics.median(times) for times in taken)
    ratio = statistics.median(a / b for a, b in zip(*taken, strict=True))
    now = ", ".join(
        f"{name} {tuned.contests[name].default} → {tuned.contests[name].best}" for name in changed
    )
    row = (case.name, measured, now, f"{before * 1e3:.3g}", f"{after * 1e3:.3g}")
    return (*row, f"{ratio:.2f}", worst), ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=SECTION_9, help="words in the names of networks")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0, help="to tune a network, at most")
    parser.add_argument("--refresh", action="store_true", help="measure again")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    rows, ratios = [], []
    for case in cases(only=options.only):
        tuned = tune(
            case.network, case.output_size, seconds=options.seconds, refresh=options.refresh
        )
        row, ratio = compare(case, tuned, options.threads)
        print(*row, sep=" | ", flush=True)
        rows.append(row)
        ratios.append(ratio)
    head = ("network", "layers measured", "changed", "default ms", "tuned ms", "ratio", "worst")
    text = (
        f"`python benchmarks/tuning.py`, {options.threads} threads, {processor()}. Milliseconds of "
        f"an update by the default and by the tuned arithmetic, medians of {ROUNDS} interleaved "
        "rounds; ratio: default / tuned (1.00 where tuning changed nothing). Worst: what the "
        "default loses in one layer, by the medians.\n\n"
        + table(head, rows)
        + f"\n\nDefault / tuned: median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}, "
        f"geometric mean {math.exp(np.mean(np.log(ratios))):.2f}."
    )
    print(text)
    if options.write:
        write_section(TITLE, text)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
