"""Predicted against measured seconds per update and peak memory, for all networks.

    python benchmarks/prediction.py [--only N4,w16] [--threads 1,2] [--write]

Each case runs in a process of its own, so that the memory of one does not count for another:
updates on the engine, a plan with measuring, and updates again, because the machine's speed drifts.
The prediction is set against the mean of both.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

from networks import PATCHES, WIDTHS, Case, cases
from results import table, write_section
from threadpoolctl import threadpool_limits

from znn_dask.bench.machine import peak_rss, rss
from znn_dask.cluster import work
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.taskgraph import plan
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.machine import processor
from znn_dask.taskgraph.plan import Plan
from znn_dask.taskgraph.state import UpdateRule
from znn_dask.training.initial import initial_parameters

_SECONDS = 0.75  # of updates before the plan, and as many after it
_RULE = UpdateRule(1e-6, 0.9, 0.0, 1e-6)


class Training:
    """Updates of a case on an engine of this process."""

    def __init__(self, case: Case, made: Plan) -> None:
        source = noise_source(case.network, case.output_size)
        spec = TrainingSpec(case.network, made.arithmetic, "square", source)
        self._context = Context(spec, Engine(made.threads, history=100_000))
        parameters = initial_parameters(case.network)
        self._state = work.new_state(self._context, parameters, None, 0)
        self._train(1)  # plans FFTs, fills the pool of memory
        self._count = max(1, round(_SECONDS / self._train(1)))

    def seconds_per_update(self) -> float:
        """In the steady state: from loss to loss."""
        timeline = self._context.engine.timeline
        timeline.clear()
        self._train(self._count + 1)
        losses = [span.end for span in timeline if span.name[0] == "loss"]
        return (losses[-1] - losses[0]) / self._count

    def _train(self, count: int) -> float:
        begin = time.perf_counter()
        self._state = work.train(self._context, self._state, self._state.step, (_RULE,) * count)
        self._context.engine.wait(self._state.jobs.values())
        return time.perf_counter() - begin


@threadpool_limits.wrap(limits=1)
def measure(case: Case, threads: int) -> dict[str, Any]:
    """Predicted and measured seconds and bytes of one case, in this process."""
    idle = rss()
    training = Training(case, plan(case.network, case.output_size, threads=threads))
    before = training.seconds_per_update()
    peak = peak_rss()
    made = plan(case.network, case.output_size, threads=threads, refresh=True)
    after = training.seconds_per_update()
    return {
        "name": case.name,
        "threads": threads,
        "predicted_s": made.schedule.step_seconds,
        "measured_s": (before + after) / 2,
        "drift": after / before,
        "predicted_bytes": made.bytes,
        "measured_bytes": peak - idle,
    }


def measure_apart(name: str, threads: int) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--case", name, "--threads", str(threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Table and medians as Markdown."""
    header = ("network", "threads", "predicted ms", "measured ms", "ratio")
    header += ("drift", "predicted MB", "measured MB", "ratio")
    lines = [
        (
            row["name"],
            row["threads"],
            f"{row['predicted_s'] * 1e3:.4g}",
            f"{row['measured_s'] * 1e3:.4g}",
            f"{row['predicted_s'] / row['measured_s']:.2f}",
            f"{row['drift']:.2f}",
            f"{row['predicted_bytes'] / 1e6:.0f}",
            f"{row['measured_bytes'] / 1e6:.0f}",
            f"{row['predicted_bytes'] / row['measured_bytes']:.2f}",
        )
        for row in rows
    ]
    widths = {f"scalability_4L_w{width}_k5" for width in WIDTHS if width >= 16}
    summary = []
    for label, names in (("networks of ZNN", set(PATCHES)), ("widths of 16 and more", widths)):
        chosen = [row for row in rows if row["name"] in names]
        for quantity, unit in (("time", "s"), ("memory", "bytes")):
            errors = [abs(r[f"predicted_{unit}"] / r[f"measured_{unit}"] - 1) for r in chosen]
            if errors:
                middle, worst = statistics.median(errors), max(errors)
                summary.append(
                    f"* {label}: {quantity} off by {middle:.1%} (median), {worst:.0%} (worst)"
                )
    return (
        f"{processor()}. `drift`: measured after the plan by measured before it.\n\n"
        + table(header, lines)
        + "\n\nPredicted by measured, how far from 1:\n\n"
        + "\n".join(summary)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="comma-separated parts of names")
    parser.add_argument("--threads", default="1,2", help="comma-separated numbers of threads")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.threads.split(",")]
    if arguments.case:
        (case,) = (case for case in cases(only=arguments.case) if case.name == arguments.case)
        print(json.dumps(measure(case, *numbers)))
        return
    rows = []
    for case, threads in product(cases(only=arguments.only), numbers):
        rows.append(measure_apart(case.name, threads))
        print(rows[-1], file=sys.stderr, flush=True)
    text = report(rows)
    print(text)
    if arguments.write:
        write_section("Predicted and measured", text)


if __name__ == "__main__":
    main()
