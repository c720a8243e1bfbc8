"""How far float32 is from float64: every map, and every gradient of kernels and biases.

    OPENBLAS_NUM_THREADS=1 python benchmarks/precision.py [--only slide,N4] [--write]

One patch of noise and one set of parameters, both in float32, go forward and backward in float32
(the default arithmetic, then each algorithm forced on every layer) and, with the same cuts, in
float64 by direct convolution. An error is the norm of the difference over the norm of the float64
array; of every layer's map, kernel gradient and bias gradient.

A maximum of two values that differ by a rounding error may choose either, and so may a rectifier
at zero. Gradients then take another way, which is no error of the arithmetic. So the float32 run
goes back the way of the float64 run: before the backward pass it is given the same winners, and
values of rectifiers whose sign differs; both are counted.
"""

import argparse
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from networks import Case, cases
from results import table, write_section
from threadpoolctl import threadpool_limits

from znn_dask.kernels.memory import aligned_copy
from znn_dask.network import Network
from znn_dask.taskgraph.arithmetic import Arithmetic, ConvolutionArithmetic
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.cost import TaskCost
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.fixed import noise_source
from znn_dask.taskgraph.layers import compile_layers
from znn_dask.taskgraph.machine import processor
from znn_dask.taskgraph.passes import Patch, Tape
from znn_dask.taskgraph.program import Program
from znn_dask.taskgraph.state import Parameters, State
from znn_dask.taskgraph.tasks import expand
from znn_dask.training.initial import initial_parameters

TITLE = "Precision"
BOUND = 1e-5
ALGORITHMS = ("auto", "tiled", "direct", "fft")
WIDTHS = (5, 16, 40)  # of the scalability networks; the others say no more
Arrays = dict[tuple[str, str], np.ndarray]


@dataclass(frozen=True)
class Run:
    """What one forward and backward pass leaves.

    `arrays`: ("map", node), ("kernel", edge) and ("bias", node) -> the map or gradient. `tape`: the
    winners of its maxima, and its maps. `flips`: voxels whose winner or sign were replayed.
    """

    arrays: Arrays
    tape: Tape
    flips: int


def run(
    network: Network,
    arithmetic: Arithmetic,
    parameters: Parameters,
    patch: Patch,
    engine: Engine,
    way: Run | None = None,
) -> Run:
    """Forward and backward; back the way that `way` went, if given, a run with the same cuts."""
    layers = compile_layers(network, arithmetic)
    program = Program(layers, expand(layers, TaskCost(layers)), engine)
    dtype = arithmetic.dtype
    state = State.from_parameters(network, parameters, dtype=dtype)
    tape = Tape(priority=(0, 0))  # without `uses`, all arrays stay
    tape.maps.update({name: aligned_copy(x, dtype) for name, x in patch.inputs.items()})
    program.forward(state, tape)
    engine.wait(tape.jobs.values())
    arrays: Arrays = {("map", name): x.copy() if way else x for name, x in tape.maps.items()}
    flips = replay(network, tape, way.tape) if way else 0
    tape.output_gradients.update({name: g.astype(dtype) for name, g in patch.targets.items()})
    gradients = program.backward(state, tape)
    engine.wait([*tape.jobs.values(), *gradients.jobs.values()])
    arrays |= {("kernel", edge): g for edge, g in gradients.kernels.items()}
    arrays |= {("bias", node): g for node, g in gradients.biases.items()}
    return Run(arrays, Tape((0, 0), maps=tape.maps, residues=tape.residues), flips)


def replay(network: Network, tape: Tape, way: Tape) -> int:
    """Give `tape` the winners of `way`, and its values of rectifiers where signs differ; how many
    differed."""
    flips = 0
    for at, residue in way.residues.items():
        for own, other in zip(_arrays(tape.residues[at]), _arrays(residue), strict=True):
            flips += np.count_nonzero(own != other)
        tape.residues[at] = residue
    for node in network.nodes:
        if node.type == "transfer" and node.function == "rectify_linear":
            own, other = tape.maps[node.name], way.maps[node.name]
            differs = (own > 0) != (other > 0)
            flips += np.count_nonzero(differs)
            own[differs] = other[differs]
    return int(flips)


def _arrays(residue: object) -> Iterator[np.ndarray]:
    """The arrays of a residue: none, one or a tuple of them."""
    if isinstance(residue, np.ndarray):
        yield residue
    elif isinstance(residue, tuple):
        for part in residue:
            yield from _arrays(part)


def errors(found: Arrays, exact: Arrays) -> dict[tuple[str, str], float]:
    """Norm of the difference over the norm of `exact`, of each array."""
    return {
        name: float(np.linalg.norm(found[name] - x) / np.linalg.norm(x))
        for name, x in exact.items()
    }


def reference(arithmetic: Arithmetic) -> Arithmetic:
    """Direct convolution in float64 with the same cuts."""
    direct = {
        edge: ConvolutionArithmetic("direct", None, how.channels)
        for edge, how in arithmetic.convolutions.items()
    }
    return replace(arithmetic, dtype="float64", convolutions=direct)


@dataclass(frozen=True)
class Comparison:
    """Errors of one algorithm in one network, keyed as the arrays of `Run`; replayed voxels."""

    errors: Mapping[tuple[str, str], float]
    flips: int

    def of(self, kind: str) -> list[float]:
        """Errors of all "map", "kernel" or "bias" arrays."""
        return [error for (what, _), error in self.errors.items() if what == kind]

    @property
    def worst(self) -> tuple[float, str, str]:
        """(error, kind, layer)."""
        (kind, layer), error = max(self.errors.items(), key=lambda item: item[1])
        return error, kind, layer


def compare(
    case: Case, algorithms: Iterable[str], engine: Engine, seed: int = 0
) -> Iterator[tuple[str, Comparison]]:
    """float32 by each algorithm against float64; those that compute alike only once."""
    network, size = case.network, case.output_size
    parameters = initial_parameters(network, seed)
    patch = noise_source(network, size, seed).always
    done = set()
    exact: tuple[str, Run] | None = None
    for algorithm in algorithms:
        arithmetic = choose_arithmetic(network, size, "float32", algorithm)
        if arithmetic.digest in done:
            continue
        done.add(arithmetic.digest)
        cut = reference(arithmetic)
        if exact is None or exact[0] != cut.digest:
            exact = None  # goes before the next one comes
            exact = cut.digest, run(network, cut, parameters, patch, engine)
        way = exact[1]
        found = run(network, arithmetic, parameters, patch, engine, way)
        computed = {name: x for name, x in way.arrays.items() if name[1] not in patch.inputs}
        yield algorithm, Comparison(errors(found.arrays, computed), found.flips)


def row(case: Case, algorithm: str, result: Comparison) -> list[str]:
    kinds = [result.of(kind) for kind in ("map", "kernel", "bias")]
    cells = [f"{statistics.median(e):.1e} / {max(e):.1e}" for e in kinds]
    _, kind, layer = result.worst
    return [case.name, algorithm, *cells, f"{kind} {layer}", str(result.flips)]


def measured(only: str) -> Iterator[Case]:
    """The cases, of the scalability networks some."""
    widths = {f"scalability_4L_w{width}_k5" for width in WIDTHS}
    for case in cases(only=only):
        if case.name in widths or not case.name.startswith("scalability"):
            yield case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="parts of names, comma-separated")
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS))
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    options = parser.parse_args()
    rows, worst = [], []
    engine = Engine(threads=2)
    with threadpool_limits(1):
        for case in measured(options.only):
            for algorithm, result in compare(case, options.algorithms.split(","), engine):
                rows.append(row(case, algorithm, result))
                worst.append(result.worst[0])
                print(" | ".join(rows[-1]), flush=True)
    engine.close()
    kinds = ("maps", "kernel gradients", "bias gradients")
    header = ("network", "algorithm", *kinds, "worst", "flips")
    text = (
        f"{table(header, rows)}\n\n"
        f"Relative errors of float32, median / worst over the layers. The worst of all is "
        f"{max(worst):.1e}; the bound is {BOUND:.0e}. Flips: voxels, of all layers, whose maximum "
        "or rectifier goes another way. An algorithm that computes as one above it is left out. "
        f"On {processor()}."
    )
    print(f"\n{text}")
    if options.write:
        write_section(TITLE, text)


if __name__ == "__main__":
    main()
