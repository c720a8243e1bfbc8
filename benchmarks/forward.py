"""Prediction of whole volumes: the chosen block, its speed and memory, predicted and measured.

    python benchmarks/forward.py [--only em3d,N4] [--limits 512,2048] [--seconds 2] [--write]

For each network and memory limit the planner chooses a block of a large volume. Blocks are then
computed, without reading and writing: on one thread, on two threads that share the typed tasks of
the patches under way, and in two processes of one thread each, interleaved. Memory is the growth of
a process of its own while it computes with two threads.
"""

import argparse
import math
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from networks import FOLDER
from results import table, write_section
from threadpoolctl import threadpool_limits

import znn_dask as znn
from znn_dask.inference.need import Need, Room
from znn_dask.inference.sizing import Candidate, Cost, candidates, fastest
from znn_dask.kernels import memory
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network
from znn_dask.network.geometry import show
from znn_dask.network.zoo import by_name
from znn_dask.taskgraph import ForwardPass
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.plan import plan
from znn_dask.training.initial import initial_parameters

VOLUMES: dict[str, Triple] = {
    "em3d": (300, 600, 600),
    "N4_relu": (100, 1000, 1000),
    "VD2D3D": (60, 500, 500),
    "wide4_w40_k5_cmcmcc": (200, 200, 200),
    "srini2d": (100, 1000, 1000),
}
ROUNDS = 3
FEWER_ROUNDS = 2  # where one block takes more than a second
MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """A network, the block that is chosen under a limit (bytes), and the memory of its blocks."""

    name: str
    network: Network
    limit: int
    choice: Candidate
    need: Need


def read(name: str) -> Network | None:
    """The network of that name; None where it is not in the networks folder."""
    if name == "em3d":
        return by_name(name)
    path = FOLDER / f"{name}.znn"
    return znn.read_znn(path) if path.exists() else None


def cases(only: str, limits: list[int]) -> list[Case]:
    """Those whose name contains one of the comma-separated words of `only`."""
    found = []
    for name, shape in VOLUMES.items():
        network = read(name)
        if network is None:
            print(f"{name} left out: not in the networks folder", file=sys.stderr)
        elif any(word in name for word in only.split(",")):
            cost = Cost(network)
            for limit in limits:
                choice = fastest(candidates(shape, cost, limit * MIB))
                found.append(Case(name, network, limit, choice, cost.chosen(choice.block)))
    return found


class Bench:
    """A network ready to compute patches of one size, with an engine of so many threads."""

    def __init__(self, network: Network, block: Triple, threads: int) -> None:
        self.forward = ForwardPass(network, initial_parameters(network, 0, "float32"), block)
        rng = np.random.default_rng(0)
        self.inputs = {
            node.name: rng.standard_normal(
                (*network.input_sizes(block)[node.name], node.size), dtype=np.float32
            )
            for node in network.inputs
        }
        self.engine = Engine(threads)

    def run(self, patches: int, count: int) -> float:
        """Seconds of `count` patches with so many under way."""

        def one(index: int) -> None:
            self.forward(self.inputs, self.engine, (index,))

        begin = time.perf_counter()
        with ThreadPoolExecutor(patches) as pool:
            list(pool.map(one, range(count)))
        return time.perf_counter() - begin


def _serve(network: Network, block: Triple, pipe: Connection) -> None:
    with threadpool_limits(1):
        bench = Bench(network, block, 1)
        bench.run(1, 1)
        pipe.send(0.0)
        while count := pipe.recv():
            pipe.send(bench.run(1, count))


class Processes:
    """Two processes of one thread each."""

    def __init__(self, network: Network, block: Triple) -> None:
        context = get_context("spawn")
        self.pipes, self.processes = [], []
        for _ in range(2):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(network, block, there), daemon=True)
            process.start()
            self.pipes.append(here)
            self.processes.append(process)
        for pipe in self.pipes:
            pipe.recv()

    def run(self, count: int) -> float:
        """Seconds until both have done half of `count` patches."""
        begin = time.perf_counter()
        for pipe in self.pipes:
            pipe.send(count // 2)
        for pipe in self.pipes:
            pipe.recv()
        return time.perf_counter() - begin

    def close(self) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send(0)
            process.join()


def rates(case: Case, seconds: float) -> dict[str, float]:
    """Voxels per second of each kind of run; medians of interleaved runs."""
    block = case.choice.block
    one, two = Bench(case.network, block, 1), Bench(case.network, block, 2)
    processes = Processes(case.network, block)
    room = case.need.fitting(2, case.limit * MIB)
    one.run(1, 1)  # kernel spectra, plans, fresh memory
    single = one.run(1, 1)
    rounds = ROUNDS if single < 1 else FEWER_ROUNDS
    count = 2 * max(1, round(seconds / single / 2 / rounds))
    runs = {
        "1 thread": lambda: one.run(1, max(1, count // 2)) * count / max(1, count // 2),
        "2 threads": lambda: two.run(room.patches, count),
        "2 processes": lambda: processes.run(count),
    }
    runs["2 threads"]()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(run())
    processes.close()
    one.engine.close()
    two.engine.close()
    voxels = count * math.prod(block)
    return {name: voxels / statistics.median(times) for name, times in taken.items()}


def resident(field: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at the most since it was last cleared."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def growth(name: str, block: Triple, room: Room) -> int:
    """Bytes by which this process grows while it computes."""
    network = read(name)
    assert network is not None
    bench = Bench(network, block, room.threads)
    memory.trim()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    with threadpool_limits(1):
        bench.run(room.patches, 2 * room.patches)
    return resident("VmHWM") - before


def measured_bytes(case: Case, room: Room) -> int:
    """`growth` in a process of its own."""
    arguments = [case.name, show(case.choice.block), str(room.patches), str(room.threads)]
    command = [sys.executable, __file__, "--growth", *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def computing(need: Need, room: Room) -> int:
    """Predicted bytes without what is read and written, as this script measures."""
    return need.bytes(room) - need.outside(room)


def predicted(case: Case, threads: int) -> float:
    """Voxels per second by what was measured of this machine's tasks."""
    made = plan(case.network, case.choice.block, threads=threads, training=False, measure=True)
    return math.prod(case.choice.block) / made.update_seconds


def row(case: Case, seconds: float) -> list[str]:
    """One line of the table."""
    room = case.need.fitting(2, case.limit * MIB)
    with threadpool_limits(1):
        expected = predicted(case, 2)
        found = rates(case, seconds)
    one, two, processes = found.values()
    need, taken = computing(case.need, room), measured_bytes(case, room)
    cells = [
        case.name,
        f"{case.limit}",
        show(case.choice.block),
        f"{case.choice.waste:.0%}",
        f"{one / 1e3:.0f}",
        f"{expected / 1e3:.0f} / {two / 1e3:.0f}",
        f"{expected / two - 1:+.0%}",
        f"{two / one:.2f}x",
        f"{two / processes:.2f}x",
        f"{need / MIB:.0f} / {taken / MIB:.0f}",
        f"{need / taken - 1:+.0%}",
    ]
    print("  ".join(cells), flush=True)
    return cells


HEADER = (
    "network",
    "limit, MiB",
    "block",
    "on halos",
    "1 thread, kvoxels/s",
    "2 threads, predicted / measured",
    "error",
    "speed-up",
    "of 2 processes",
    "MiB predicted / measured",
    "error",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default="", help="words in the names of networks, with commas")
    parser.add_argument("--limits", default="512,2048", help="MiB, with commas")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind of run")
    parser.add_argument("--write", action="store_true", help="into RESULTS.md")
    parser.add_argument("--growth", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.growth:
        name, size, patches, threads = arguments.growth
        z, y, x = (int(n) for n in size.split(","))
        print(growth(name, (z, y, x), Room(int(patches), int(threads))))
        return
    limits = [int(limit) for limit in arguments.limits.split(",")]
    rows = [row(case, arguments.seconds) for case in cases(arguments.only, limits)]
    text = (
        "Blocks chosen under a memory limit for volumes of 12 to 108 million voxels, and the speed "
        "at which they are computed (without reading and writing):\n\n"
        "    python benchmarks/forward.py --write\n\n"
        '"On halos" is the share of the work that a volume in one piece would not take; "of 2 '
        'processes" compares two threads with two processes of one thread each; memory is that of '
        "two threads with the patches that they have under way.\n\n" + table(HEADER, rows)
    )
    print(text)
    if arguments.write:
        write_section("Prediction", text)


if __name__ == "__main__":
    main()
