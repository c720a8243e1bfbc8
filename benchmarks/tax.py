"""What training costs beyond its arithmetic.

    python benchmarks/tax.py [--only slide_3L,em3d] [--seconds 0.6] [--write]

`Trainer.fit` on `local_cluster()` (patches drawn and augmented from a Zarr volume, progress,
learning curve, a checkpoint every 1000 updates), in interleaved rounds with

* one thread: a plain loop over the passes' functions in a process of its own (`bare.py`);
* two threads: the same jobs on an engine without Dask, on a patch that is always there;
* two threads: two processes that run the plain loop at the same time, each its own copy. What they
  make together is what the machine has to give: more than one training can, as nothing of it waits.

The networks get a classifier of 1x1x1 with three channels, as the sampler has no other targets.
"""

import argparse
import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from bare import BareLoop
from networks import Case, cases
from results import table, write_section
from threadpoolctl import threadpool_limits

import znn_dask as znn
from znn_dask.cluster import work
from znn_dask.cluster.local import local_cluster
from znn_dask.cluster.work import Context, TrainingSpec
from znn_dask.data import cache
from znn_dask.data import source as data_source
from znn_dask.data.volume import create_image
from znn_dask.network import Network
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import FixedPatch, FixedSource
from znn_dask.taskgraph.state import UpdateRule

NETWORKS = (
    "slide_3L_w5_k5",
    "slide_3L_w15_k5",
    "slide_4L_w16_k5",
    "em3d",
)
CHECKPOINT_EVERY = 1000
ETA = 1e-6  # noise teaches nothing: stay where numbers are ordinary
ROUNDS = 3
PATCHES = 30  # drawn to measure what one costs
SHAPE = (64, 256, 256)
VOLUME_BYTES = math.prod(SHAPE) * 5  # uint8 image, uint32 labels

Run = Callable[[int], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default="", help="comma-separated parts of network names")
    parser.add_argument("--seconds", type=float, default=0.6, help="of each measured piece")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        volume = write_volume(Path(folder) / "volume.zarr")
        for case in chosen(options.only):
            rows.append(measure(case, volume, Path(folder), options.seconds, options.rounds))
            print("  ".join(map(str, rows[-1])), file=sys.stderr, flush=True)
    text = table(HEADER, rows)
    print(text)
    if options.write:
        write_section("Tax", f"{EXPLANATION}\n\n{text}")


HEADER = (
    "network",
    "plain loop, 1 thread",
    "`fit`, 1 thread",
    "tax",
    "engine, 2 threads",
    "`fit`, 2 threads",
    "tax",
    "two processes",
    "`fit` of it",
    "patch, volume in memory",
    "patch, a third of the chunks",
)
EXPLANATION = (
    "Milliseconds per update, medians of interleaved rounds, and medians of the ratios of "
    "neighbours: `python benchmarks/tax.py --write`. "
    "The plain loop calls the passes' functions on a patch that is there; `fit` draws and augments "
    "patches of a Zarr volume and writes a checkpoint every 1000 updates. Two processes: time per "
    "update of two plain loops side by side, counted together; the last column is their time "
    "over that of `fit` on two threads. Patches: milliseconds to draw and augment one, alone, "
    "from a volume whose decoded voxels are in memory, and from one of 64x64x32 chunks of which a "
    "third fits the cache."
)


def chosen(only: str) -> Iterator[Case]:
    words = only.split(",")
    wanted = [n for n in NETWORKS if any(word in n for word in words)]
    if "em3d" in wanted:
        yield Case("em3d", znn.zoo.em3d(), (20, 20, 20))
    for case in cases(only=",".join(n for n in wanted if n != "em3d") or "none"):
        yield Case(case.name, classified(case.network), case.output_size)


def classified(network: Network) -> Network:
    """The network with a classifier of affinities on top."""
    return network.conv("classifier", 3, (1, 1, 1), "forward_logistics", node="affinity")


def write_volume(path: Path) -> Path:
    """`SHAPE` voxels of noise, in cubes of one label."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices(SHAPE) // 11
    values = {
        "image": rng.integers(0, 255, SHAPE).astype(np.uint8),
        "labels": (1 + x + 30 * y + 900 * z).astype(np.uint32),
    }
    for name, data in values.items():
        create_image(path, name, SHAPE, data.dtype, (32, 64, 64), (30, 6, 6))[...] = data
    return path


def measure(case: Case, volume: Path, folder: Path, seconds: float, rounds: int) -> list[Any]:
    """One row of the table."""
    trainer = Fit(case, volume, folder / case.name)
    with ExitStack() as stack:
        processes = [stack.enter_context(plain_loop(trainer.job)) for _ in range(2)]
        count = max(3, round(seconds / processes[0](2)))
        with trainer.on(1) as fit:
            one = interleaved(rounds, count, processes[0], fit)
        with trainer.on(2) as fit, engine_loop(trainer.job) as engine:
            two = interleaved(rounds, count, engine, fit, lambda n: together(processes, n))
    return [
        case.name,
        *(f"{statistics.median(times) * 1e3:.2f}" for times in one),
        f"{ratio(one[1], one[0]) - 1:+.1%}",
        *(f"{statistics.median(times) * 1e3:.2f}" for times in two[:2]),
        f"{ratio(two[1], two[0]) - 1:+.1%}",
        f"{statistics.median(two[2]) * 1e3:.2f}",
        f"{ratio(two[2], two[1]):.0%}",
        *(f"{loading(trainer, cached) * 1e3:.2f}" for cached in (1.0, 1 / 3)),
    ]


def interleaved(rounds: int, count: int, *runs: Run) -> list[list[float]]:
    """Seconds per update of every run, round by round; a first one that warms up is left out."""
    times = [[run(count) for run in runs] for _ in range(rounds + 1)]
    return [list(column) for column in zip(*times[1:], strict=True)]


def ratio(times: list[float], others: list[float]) -> float:
    """Median of the ratios of neighbours: what else the machine does hits both alike."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def loading(trainer: "Fit", cached: float) -> float:
    """Seconds of a patch: of a volume in memory, or of chunks of which a share stays decoded."""
    before = data_source.WHOLE_BYTES, cache._DECODED.capacity
    if cached < 1:
        data_source.WHOLE_BYTES = 0
        cache._DECODED.capacity = round(cached * VOLUME_BYTES)
    try:
        source = trainer.make().source
        for i in range(PATCHES):
            source.patch(i)
        begin = time.perf_counter()
        for i in range(PATCHES, 2 * PATCHES):
            source.patch(i)
        return (time.perf_counter() - begin) / PATCHES
    finally:
        data_source.WHOLE_BYTES, cache._DECODED.capacity = before


class Fit:
    """A training whose pieces are timed."""

    def __init__(self, case: Case, volume: Path, folder: Path) -> None:
        self.make = lambda: znn.Trainer(
            case.network,
            volume,
            case.output_size,
            optimizer=znn.SGD(ETA, momentum=0.9),
            folder=folder,
            checkpoint_every=CHECKPOINT_EVERY,
            progress=False,
        )
        made = self.make()
        drawn = made.source.patch(0)
        patch = FixedPatch(drawn.inputs, drawn.targets, drawn.weights)
        self.job = made.network, made.plan.arithmetic, made.loss, patch, made.parameters

    @contextmanager
    def on(self, threads: int) -> Iterator[Any]:
        """A function that trains for some updates more and returns the seconds of one."""
        trainer = self.make()
        with local_cluster(threads, dashboard=False) as client:
            trainer._client = client
            yield lambda count: self._piece(trainer, count)

    def _piece(self, trainer: znn.Trainer, count: int) -> float:
        granule = max(1, trainer.plan.steps_per_granule)
        count = max(4, -(-count // granule) + 2) * granule
        curve = trainer.fit(trainer.step + count).train
        return steady(curve.column("step")[-count:], curve.column("seconds")[-count:])


def steady(steps: np.ndarray, seconds: np.ndarray) -> float:
    """Seconds per update between the first outcome of a piece and the last but one.

    The first starts the line, and the last waits for a snapshot.
    """
    stamps = np.unique(seconds)
    last = [int(steps[seconds == stamp][-1]) for stamp in (stamps[0], stamps[-2])]
    return float(stamps[-2] - stamps[0]) / (last[1] - last[0])


Job = tuple[Network, Any, str, FixedPatch, dict[str, np.ndarray]]


def _rule(job: Job) -> UpdateRule:
    return UpdateRule(ETA, 0.9, 0.0, 1e-6)


@contextmanager
def engine_loop(job: Job) -> Iterator[Any]:
    """The same jobs on an engine of two threads, without Dask."""
    network, arithmetic, loss, patch, parameters = job
    spec = TrainingSpec(network, arithmetic, loss, FixedSource(patch))
    engine = Engine(2)
    context = Context(spec, engine)
    state = work.new_state(context, parameters, None, 0)

    def run(count: int) -> float:
        nonlocal state
        begin = time.perf_counter()
        state = work.train(context, state, state.step, (_rule(job),) * count)
        engine.wait(state.jobs.values())
        return (time.perf_counter() - begin) / count

    with threadpool_limits(1):
        yield run
    engine.close()


@contextmanager
def plain_loop(job: Job) -> Iterator[Any]:
    """A process that runs the plain loop: count -> seconds of one update."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_plain, args=(there, job), daemon=True)
    process.start()
    there.close()

    def run(count: int) -> float:
        here.send(count)
        return here.recv()

    run.pipe = here  # type: ignore[attr-defined]
    try:
        run(1)
        yield run
    finally:
        here.send(0)
        process.join()


def together(processes: list[Any], count: int) -> float:
    """Seconds per update of all processes at once, counted together."""
    for process in processes:
        process.pipe.send(count)
    return 1 / sum(1 / process.pipe.recv() for process in processes)


def _plain(pipe: Connection, job: Job) -> None:
    threadpool_limits(1)
    loop = BareLoop(*job, _rule(job))
    while count := pipe.recv():
        begin = time.perf_counter()
        for _ in range(count):
            loop.update()
        pipe.send((time.perf_counter() - begin) / count)


if __name__ == "__main__":
    main()
