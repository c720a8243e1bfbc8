"""Strong and weak scaling over workers: measured on one and two, predicted there, and projected.

    python benchmarks/scaling.py [--networks em3d,wide4] [--write]

Measured: worker processes of one thread each, on this machine, through sessions as training has
them; interleaved rounds, medians. Predicted: the cluster's schedule (`taskgraph.cluster_schedule`)
from seconds of the tasks rehearsed here, and from a hop and a bandwidth measured between the two
workers. Projected: the same simulation for clusters that are not here. About three minutes.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from distributed import Client
from networks import cases
from results import table, write_section

import znn_dask as znn
from znn_dask.cluster.local import local_cluster
from znn_dask.cluster.session import Session
from znn_dask.cluster.work import TrainingSpec
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network
from znn_dask.taskgraph.cluster_schedule import (
    ClusterSchedule,
    ReplicaCost,
    replica_cost,
    simulate_cluster,
)
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.machine import Machine
from znn_dask.taskgraph.plan import Plan, plan
from znn_dask.taskgraph.state import UpdateRule
from znn_dask.training.initial import initial_parameters

PICTURE = Path(__file__).with_name("scaling.png")
LINKS = {"10 Gbit/s, 0.1 ms": (1.25e9, 1e-4), "1 Gbit/s, 0.1 ms": (1.25e8, 1e-4)}
WORKERS = (1, 2, 8, 64, 512)
THREADS = 16  # of a projected worker: a machine with all its cores
BATCH = 512  # of projected strong scaling
RULE = UpdateRule(1e-6, 0.9, 0.0, 1e-6)
ROUNDS = 3
ROUND_SECONDS = 2.0


@dataclass(frozen=True)
class Setting:
    """Workers that are used, and patches of the batch."""

    name: str
    workers: int
    batch: int


SETTINGS = (
    Setting("1 worker, 1 patch", 1, 1),
    Setting("1 worker, 2 patches", 1, 2),
    Setting("2 workers, 2 patches", 2, 2),
)


def networks(only: str) -> list[tuple[str, Network, Triple]]:
    found = [("em3d", znn.zoo.by_name("em3d", 3), (16, 16, 16))]
    found += [(c.name, c.network, c.output_size) for c in cases(only="slide_4L_w16_k5,wide4")]
    words = [word for word in only.split(",") if word]
    return [n for n in found if not words or any(word in n[0] for word in words)]


class Run:
    """Updates of one network on some workers of a cluster."""

    def __init__(self, client: Client, made: Plan, setting: Setting) -> None:
        self.client, self.setting = client, setting
        source = noise_source(made.network, made.arithmetic.output_size)
        spec = TrainingSpec(made.network, made.arithmetic, "given", source, batch=setting.batch)
        sign = 1 if setting.workers == 1 else -1  # fewest or most workers
        self.session = Session(
            client,
            spec,
            whole_steps=made.steps_per_granule > 0,
            estimate=lambda threads, patches: sign * len(threads),
        )
        self.session.start(initial_parameters(made.network, 0, "float32"), None, 0)
        assert len(self.session.workers) == setting.workers
        self.step = 0
        self.seconds = self.seconds_of(2)
        self.moved: list[float] = []

    def round(self, seconds: float) -> float:
        """Seconds per update of a round of about so many seconds."""
        steps = max(2, round(seconds / self.seconds))
        sent = self.sent()
        self.seconds = self.seconds_of(steps)
        self.moved.append((self.sent() - sent) / (steps + 1))
        return self.seconds

    def seconds_of(self, steps: int) -> float:
        """Of an update among so many, the first of which starts the line and does not count."""
        half = max(1, steps // 2)
        reports = []
        for count in (1, half, steps - half):
            reports.append(self.session.train(self.step, [RULE] * count))
            self.step += count
        self.session.result(reports[0][-1])
        began = time.perf_counter()
        self.session.result(reports[-1][-1])
        return (time.perf_counter() - began) / steps

    def sent(self) -> int:
        """Bytes that workers sent to others so far."""

        def total(dask_worker: object) -> int:
            return dask_worker.transfer_outgoing_bytes_total  # type: ignore[attr-defined]

        return sum(self.client.run(total).values())


def measured_machine(client: Client, base: Machine) -> Machine:
    """Hop and bandwidth between the two workers of a cluster."""
    workers = sorted(client.scheduler_info()["workers"])

    def chain(nbytes: int, links: int = 20) -> float:
        future = client.submit(np.ones, nbytes // 4, np.float32, workers=workers[0], pure=False)
        future.result()
        began = time.perf_counter()
        for i in range(links):
            future = client.submit(np.negative, future, workers=workers[1 - i % 2], pure=False)
        client.submit(len, future, workers=workers[links % 2]).result()
        return (time.perf_counter() - began) / links

    chain(4)
    small = statistics.median(chain(4) for _ in range(3))
    large = statistics.median(chain(8_000_000) for _ in range(3))
    return replace(base, hop_seconds=small, bytes_per_second=8e6 / (large - small))


def measure(
    client: Client, name: str, network: Network, size: Triple
) -> tuple[Plan, list[list[object]]]:
    """The network's plan for one thread, and rows of measured and predicted seconds."""
    alone = plan(network, size, threads=1, refresh=True)
    together = plan(network, size, threads=2, refresh=True)  # tasks while both cores work
    machine = measured_machine(client, alone.machine)
    cost = replica_cost(alone, machine)
    busy = replica_cost(together, machine)
    runs = [Run(client, alone, setting) for setting in SETTINGS]
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS if runs[0].seconds < 1 else 2):
        for run, taken in zip(runs, seconds, strict=True):
            taken.append(run.round(ROUND_SECONDS))
    medians = [statistics.median(taken) for taken in seconds]
    rows: list[list[object]] = []
    for run, median in zip(runs, medians, strict=True):
        setting = run.setting
        share = [setting.batch // setting.workers] * setting.workers
        predicted = simulate_cluster(
            cost if setting.workers == 1 else busy, [1] * setting.workers, share, machine
        )
        moved = statistics.median(run.moved)
        counted = 2 * (setting.workers - 1) * cost.gradient_bytes
        speedup = ""
        if setting.workers == 2:
            strong, weak = medians[1] / median, medians[0] / median
            speedup = f"strong {strong:.2f}x, weak {weak:.0%}"
        rows.append(
            [
                *(name, setting.name, f"{median * 1e3:.1f}", f"{predicted.step_seconds * 1e3:.1f}"),
                f"{predicted.step_seconds / median - 1:+.0%}",
                speedup,
                f"{moved / 1e6:.2f}" if counted else "0",
                f"{counted / 1e6:.2f}",
            ]
        )
        print(*rows[-1], sep=" | ", flush=True)
    for run in runs:
        run.session.close()
    rows[-1].append(f"{machine.hop_seconds * 1e3:.1f}, {machine.bytes_per_second / 1e6:.0f}")
    return together, rows


Projection = dict[tuple[str, str, str], list[ClusterSchedule]]  # network, link, kind


def project(plans: dict[str, Plan], hop: float) -> Projection:
    """Steps on clusters of these links, for every number of workers."""
    found: Projection = {}
    for name, made in plans.items():
        for link, (rate, latency) in LINKS.items():
            machine = replace(
                made.machine, hop_seconds=hop, bytes_per_second=rate, latency_seconds=latency
            )
            cost: ReplicaCost = replica_cost(replace(made, threads=THREADS), machine)
            kinds: dict[str, Callable[[int], int]] = {
                "strong": lambda workers: BATCH // workers,
                "weak": lambda workers: 1,
            }
            for kind, patches in kinds.items():
                found[name, link, kind] = [
                    simulate_cluster(cost, [THREADS] * w, [patches(w)] * w, machine)
                    for w in WORKERS
                ]
    return found


def efficiencies(kind: str, steps: Sequence[ClusterSchedule]) -> list[float]:
    """Of one worker's speed, per worker."""
    first = steps[0].step_seconds
    return [
        first / (step.step_seconds * (workers if kind == "strong" else 1))
        for workers, step in zip(WORKERS, steps, strict=True)
    ]


def draw(projection: Projection) -> None:
    """Efficiency over workers, one panel per kind of scaling."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    names = list(dict.fromkeys(name for name, _, _ in projection))
    for (name, link, kind), steps in projection.items():
        panel = panels[int(kind == "weak")]
        panel.plot(
            *(WORKERS, efficiencies(kind, steps)),
            *("o-" if link.startswith("10") else "o--",),
            color=f"C{names.index(name)}",
            markersize=3,
            label=f"{name}, {link}",
        )
    for panel, kind in zip(panels, (f"strong: batch {BATCH}", "weak: a patch each"), strict=True):
        panel.set(title=kind, xscale="log", xlabel=f"workers of {THREADS} threads", ylim=(0, 1.05))
        panel.set_xticks(WORKERS, WORKERS)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("efficiency")
    panels[1].legend(fontsize=6.5)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default="", help="words of names, comma-separated")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    rows: list[list[object]] = []
    plans: dict[str, Plan] = {}
    with local_cluster(1, workers=2, processes=True, dashboard=False) as client:
        hop = measured_machine(client, Machine()).hop_seconds
        for name, network, size in networks(options.networks):
            plans[name], new = measure(client, name, network, size)
            rows += new
    projection = project(plans, hop)
    draw(projection)
    header = ["network", "setting", "measured, ms", "predicted, ms", "error", "two workers"]
    header += ["MB moved", "2 (W-1) x parameters, MB", "hop, ms; MB/s"]
    measured = table(header, [[*row, ""][: len(header)] for row in rows])
    lines = []
    for (name, link, kind), steps in projection.items():
        shown = [
            f"{s.step_seconds:.3g} s, {e:.0%}"
            for s, e in zip(steps, efficiencies(kind, steps), strict=True)
        ]
        lines.append([name, link, kind, *shown])
    projected = table(["network", "link", "scaling", *(f"{w} workers" for w in WORKERS)], lines)
    last = projection[next(iter(projection))][-1]
    parallel = [made.schedule.work / made.schedule.critical_path for made in plans.values()]
    text = f"""\
    python benchmarks/scaling.py

Worker processes of one thread on this machine of {os.cpu_count()} cores, a batch over them; medians
of {ROUNDS} interleaved rounds (2 where a patch takes more than a second). With two workers both
cores compute, and the scheduler, the client and the workers' event loops have no core of their own:
what they take comes out of the kernels, so the second worker's gain is understated, and predictions
for two workers use seconds of tasks rehearsed while both cores work.

{measured}

Projected by the same simulation to workers of {THREADS} threads (a patch keeps
{", ".join(f"{p:.1f}" for p in parallel)} of them busy), with the hop measured here
({hop * 1e3:.1f} ms) and {Machine().granule_seconds * 1e3:.0f} ms of CPU per Dask task, half of it
in the scheduler, which does one at a time. Strong: a batch of {BATCH} patches; weak: a patch per
worker. Seconds of a step, and efficiency: of a single worker's speed, per worker.

{projected}

![efficiency over workers](scaling.png)

A step of {WORKERS[-1]} workers is {last.granules} Dask tasks and so at least
{last.granules * Machine().granule_seconds / 2:.1f} s of the scheduler: with a patch per worker that
is what large clusters wait for, not the links. More patches per worker are what helps.
"""
    print(text)
    if options.write:
        write_section("Scaling over workers", text)


if __name__ == "__main__":
    main()
