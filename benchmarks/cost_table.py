"""The cost table against this machine: seconds of convolutions as measured and as counted.

    OPENBLAS_NUM_THREADS=1 python benchmarks/cost_table.py [--only slide,N4] [--fit]

Each conv layer of the networks by the methods that come into question, as `znn-dask tune` measures
them (`--seconds` for a layer at most): its passes and the work on its kernels in milliseconds, and
measured / counted; `*` marks the choice of the table. `--fit` ends with the constants of
`kernels/costs.py` for which the ratios spread least, and what the choice by them would lose.
"""

import argparse
import math
import statistics
from collections.abc import Iterator, Mapping

from networks import SECTION_9, cases

from znn_dask.kernels import costs
from znn_dask.taskgraph.arithmetic import Method
from znn_dask.taskgraph.choice import ConvLayer, conv_layers, default_method
from znn_dask.taskgraph.stopwatch import measure
from znn_dask.taskgraph.timings import Round
from znn_dask.taskgraph.tuning import contenders

CONSTANTS = ("_LINE", "_PRODUCT", "_DIRECT", "_MEMORY", "_NEAR", "_READ", "_GATHER", "_CALL")
STEPS = (1.25, 1.08)  # factors by which a constant is tried larger and smaller
OUTLIER = math.log(1.5)  # errors beyond this count linearly

Measured = Mapping[Method, Round]


def medians(layer: ConvLayer, seconds: float) -> Measured:
    """What each method takes; direct convolution always among them."""
    methods = contenders(layer)
    if Method("direct") not in methods:
        methods = (*methods, Method("direct"))
    rounds = measure(layer, methods, seconds)
    return {m: Round(*map(statistics.median, zip(*r, strict=True))) for m, r in rounds.items()}


def shared(layer: ConvLayer, measured: Measured) -> dict[Method, float]:
    """Seconds of each method on two threads."""
    return {m: costs.on_two_threads(layer.bind(m), *taken) for m, taken in measured.items()}


def lines(name: str, layer: ConvLayer, measured: Measured) -> list[str]:
    """The layer, and a line for each method, the fastest first."""
    shape, chosen = layer.shape, default_method(layer)
    text = [
        f"{name}: {shape.channels[0]}→{shape.channels[1]} channels, kernel {shape.kernel}, "
        f"dilation {shape.dilation}, output {shape.output_size}"
    ]
    taken = shared(layer, measured)
    for method in sorted(taken, key=lambda m: taken[m]):
        cost = costs.cost(layer.bind(method))
        kernels = cost.kernel_gradient + cost.kernel_spectrum
        counted = Round(cost.update(layer.onward) - kernels, kernels)
        pairs = [
            f"{1e3 * m:9.3f} {m / c:5.2f}" for m, c in zip(measured[method], counted, strict=True)
        ]
        text.append(f"  {method!s:>16}{'*' if method == chosen else ' '} " + "  ".join(pairs))
    return text


class Samples:
    """What was measured, ready to be counted again and again with other constants."""

    def __init__(self, found: Mapping[ConvLayer, Measured]) -> None:
        self._layers = [
            (layer, [(layer.bind(m), taken) for m, taken in shared(layer, measured).items()])
            for layer, measured in found.items()
        ]

    def counted(self) -> Iterator[list[tuple[float, float]]]:
        """For each layer: (measured, counted) seconds of its methods."""
        for layer, methods in self._layers:
            passes = {"training": layer.training, "input_gradient": layer.onward}
            yield [(taken, costs.predicted(conv, **passes)) for conv, taken in methods]

    def error(self) -> float:
        """Mean of the squared logarithms of measured / counted, outliers tamed; layers count
        alike."""
        layers = []
        for pairs in self.counted():
            logs = [abs(math.log(taken / counted)) for taken, counted in pairs]
            tamed = [e**2 if e < OUTLIER else OUTLIER * (2 * e - OUTLIER) for e in logs]
            layers.append(statistics.fmean(tamed))
        return statistics.fmean(layers)

    def losses(self) -> list[float]:
        """For each layer: what the table's favourite of the methods loses to the fastest one."""
        return [
            min(pairs, key=lambda pair: pair[1])[0] / min(taken for taken, _ in pairs) - 1
            for pairs in self.counted()
        ]


def fit(samples: Samples) -> None:
    """Set the constants of the table, one after the other, to where the error is least."""
    best = samples.error()
    for step in STEPS:
        better = True
        while better:
            better = False
            for name in CONSTANTS:
                for factor in (step, 1 / step):
                    before = getattr(costs, name)
                    setattr(costs, name, before * factor)
                    now = samples.error()
                    if now < best:
                        best, better = now, True
                    else:
                        setattr(costs, name, before)


def say(when: str, samples: Samples) -> None:
    """How well the table does."""
    lost = samples.losses()
    print(
        f"{when}: typical error {math.expm1(math.sqrt(samples.error())):.0%}; the choice loses "
        f"{statistics.median(lost):.1%} in the median, {max(lost):.0%} at worst, and more than "
        f"10 % in {sum(each > 0.1 for each in lost)} of {len(lost)} layers"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=SECTION_9, help="words in the names of networks")
    parser.add_argument("--seconds", type=float, default=4.0, help="for a layer, at most")
    parser.add_argument("--fit", action="store_true", help="fit the constants of the table")
    options = parser.parse_args()
    names: dict[ConvLayer, str] = {}
    for case in cases(only=options.only):
        layers = conv_layers(case.network, case.output_size, "float32", training=True)
        for edge, layer in layers.items():
            if layer.shape.kernel != (1, 1, 1):
                names.setdefault(layer, f"{case.name} {edge}")
    found = {}
    for layer, name in names.items():
        found[layer] = medians(layer, options.seconds)
        print(*lines(name, layer, found[layer]), sep="\n", flush=True)

    samples = Samples(found)
    say("constants as they are", samples)
    if options.fit:
        fit(samples)
        say("fitted", samples)
        print(*(f"{name} = {getattr(costs, name):.3g}" for name in CONSTANTS), sep="\n")


if __name__ == "__main__":
    main()
