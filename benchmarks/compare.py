"""Whole networks in znn_dask and in PyTorch, side by side: updates, forward passes, memory.

    python benchmarks/compare.py [--only N4,w16] [--threads 2] [--torch PYTHON] [--write]
    python benchmarks/compare.py --only bench --write --add      # in pieces
    python benchmarks/compare.py NET.znn --output-size Z,Y,X

PyTorch computes the dilated dense equivalent with the same loss and SGD with momentum, in the
layout of its maps that is fastest (`compare_torch.py`). It may live in another environment: give
its interpreter. Before anything is timed, outputs and gradients of both sides are compared.
"""

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from compare_plot import draw
from compare_record import load, save, together
from compare_report import Comparison, Pair, report
from contender import Contender, Others
from networks import PATCHES, Case, cases
from results import write_section
from roofline import Peaks, measure_peaks

from znn_dask.network import Network, format_znn, read_znn

KINDS = ("update", "forward")
OUTPUT_TOLERANCE = 1e-4  # relative, float32
# A maximum of two values that differ in the last bit goes either way, and few decide on a small
# patch. In float64 the gradients are equal (tests/benchmarks/test_torch_network.py).
GRADIENT_TOLERANCE = 1e-2
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 7
_DISTURBED = 0.05  # share of the processors that others had during a round


class DifferentError(ValueError):
    """The two sides do not compute the same."""


def compare(case: Case, threads: int, python: str, seconds: float, peaks: Peaks) -> Comparison:
    """Both sides of one case, each in a process of its own, only one of them busy at a time."""
    text, sure = format_znn(case.network), format_znn(without_dropout(case.network))
    with (
        tempfile.TemporaryDirectory() as folder,
        Contender(sys.executable, "compare_znn.py", 1) as ours,
        Contender(python, "compare_torch.py", threads) as torch,
    ):
        arrays = str(Path(folder) / "arrays.npz")
        ours.ask("start", text, case.output_size, threads)
        first = ours.ask("first", arrays, sure)
        with Contender(python, "compare_torch.py", threads) as trial:
            trial.ask("start", text, threads)
            found = trial.ask("layouts", arrays)
            best = {kind: min(found[kind], key=found[kind].get) for kind in KINDS}
            difference = trial.ask("check", arrays, best["update"], sure)
        check(case.name, difference)
        torch.ask("start", text, threads)
        torch_first = torch.ask("first", arrays, best["update"])

        others = Others((ours, torch))

        def ask(kind: str) -> Pair:
            torch.ask("prepare", arrays, best[kind])
            return pair(
                lambda count: ours.ask("run", kind, count),
                lambda count: torch.ask("run", kind, best[kind], count),
                seconds / 2,
                others.share,
            )

        update = ask("update")
        memory = (ours.ask("memory"), torch.ask("memory"))
        forward = ask("forward")
        roofline = ours.ask("roofline", peaks.threads, peaks.sgemm, peaks.transform)
    return Comparison(
        case.name,
        update,
        forward,
        (first, torch_first),
        memory,
        (roofline[0], roofline[1]),
        (difference["output"], difference["gradient"]),
        (best["update"], best["forward"]),
    )


def pair(
    ours: Callable[[int], float],
    torch: Callable[[int], float],
    seconds: float,
    others: Callable[[], float] = lambda: 0.0,
) -> Pair:
    """Rounds of both in turn for about so many seconds.

    Each side is given a count and returns the seconds of one. `others` tells the share of the
    processors that went to anything else since it was last asked: rounds that were disturbed do not
    count where enough others were not.
    """
    each = seconds / (2 * _FEWEST_ROUNDS)
    counts = [max(1, min(1000, round(each / run(1)))) for run in (ours, torch)]
    torch(1)  # its threads have slept
    rounds: list[tuple[float, float, float]] = []
    others()
    end = time.perf_counter() + seconds
    while True:
        rounds.append((ours(counts[0]), torch(counts[1]), others()))
        calm = [r for r in rounds if r[2] < _DISTURBED]
        late = time.perf_counter() > end
        if len(calm) == _MOST_ROUNDS or (late and len(calm) >= _FEWEST_ROUNDS):
            break
        if late and len(rounds) >= 2 * _FEWEST_ROUNDS:
            calm = rounds
            break
    ratio = statistics.median(t / o for o, t, _ in calm)
    mine, theirs, rest = (statistics.median(values) for values in zip(*calm, strict=True))
    return Pair(mine, theirs, ratio, rest)


def check(name: str, difference: dict[str, float]) -> None:
    """Raise DifferentError where outputs or gradients differ by more than rounding."""
    for what, limit in (("output", OUTPUT_TOLERANCE), ("gradient", GRADIENT_TOLERANCE)):
        if not difference[what] <= limit:
            raise DifferentError(
                f"{name}: the {what}s of znn_dask and PyTorch differ by {difference[what]:.1e}"
                f" where {limit:.0e} is rounding; the two do not compute the same"
            )


def without_dropout(network: Network) -> Network:
    """The same network, whose dropout keeps everything."""
    edges = tuple(replace(e, ratio=1.0) if e.type == "dropout" else e for e in network.edges)
    return replace(network, edges=edges)


def chosen(options: argparse.Namespace) -> Iterator[Case]:
    """The file that was given, or the cases of `networks.py`."""
    if options.network is None:
        yield from cases(only=options.only)
        return
    if options.output_size is None:
        raise ValueError(f"{options.network} is given without its output patch: --output-size")
    sizes = options.output_size.split(",")
    if len(sizes) != 3 or not all(size.isdecimal() for size in sizes):
        raise ValueError(f"--output-size {options.output_size} is not three numbers: give z,y,x")
    z, y, x = map(int, sizes)
    yield Case(Path(options.network).stem, read_znn(options.network), (z, y, x))


def interpreter(given: str | None) -> str:
    """An interpreter that has torch."""
    if given is None and importlib.util.find_spec("torch") is None:
        raise ValueError(
            "PyTorch is not installed here: pip install 'znn-dask[bench]', or give --torch PYTHON"
            " of an environment that has it"
        )
    return given or sys.executable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("network", nargs="?", help="a .znn file, in place of the known networks")
    parser.add_argument("--output-size", metavar="Z,Y,X", help="output patch of that network")
    parser.add_argument("--only", default=",".join(PATCHES), help="words in names, with commas")
    parser.add_argument("--threads", type=int, default=2, help="of either side")
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that has torch")
    parser.add_argument("--seconds", type=float, default=6.0, help="of timing each network")
    parser.add_argument("--write", action="store_true", help="into RESULTS.md, and the plot")
    parser.add_argument("--add", action="store_true", help="to the networks written before")
    options = parser.parse_args()
    try:
        python = interpreter(options.torch)
        one, several = measure_peaks(1), measure_peaks(options.threads)
        found = []
        for case in chosen(options):
            found.append(compare(case, options.threads, python, options.seconds, several))
            print(found[-1], file=sys.stderr, flush=True)
        if not found:
            raise ValueError(f"no network's name has any of {options.only}: see networks.py")
    except (ValueError, OSError) as error:
        parser.exit(2, f"compare.py: {error}\n")
    if options.add:
        found = together(load(), found)
    text = report(found, one, several)
    print(text)
    if options.write:
        save(found)
        draw(found)
        write_section("Networks beside PyTorch", text)


if __name__ == "__main__":
    main()
