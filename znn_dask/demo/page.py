"""The demo's report page."""

from collections.abc import Sequence
from math import prod
from pathlib import Path

from znn_dask.demo.results import Results
from znn_dask.network import draw
from znn_dask.report import Fact, Picture, Section, Table, slice_panels, write_report
from znn_dask.report.gantt_svg import svg
from znn_dask.report.schedule import middle, span_gantt
from znn_dask.segmentation.scores import Scores
from znn_dask.taskgraph.explain import nbytes, seconds
from znn_dask.taskgraph.plan import Plan
from znn_dask.training.figure import learning_curve_figure

_UPDATES_DRAWN = 2.5


def write_page(results: Results) -> Path:
    """Write `report.html`; returns its path."""
    scores, raw, trainer = results.scores, results.raw_scores, results.trainer
    total = sum(results.seconds.values())
    sections = [_outcome(results), _learning(results), _network(results), _computing(results)]
    what = "synthetic electron microscopy" if results.synthetic else Path(results.volume).name
    size = "×".join(str(n) for n in results.image.shape)
    return write_report(
        results.folder / "report.html",
        "From electron microscopy to objects",
        [*sections, _onwards(results)],
        [
            Fact(
                "adapted Rand error",
                f"{scores.adapted_rand_error:.3f}",
                f"without learning {raw.adapted_rand_error:.3f}; 0 is perfect",
            ),
            Fact(
                "variation of information",
                f"{scores.vi:.2f} bits",
                f"without learning {raw.vi:.2f}; 0 is perfect",
            ),
            Fact(
                "training",
                f"{1 / results.update_seconds:.0f} updates/s",
                f"{trainer.step:,} updates of {_size(trainer.output_size)} voxels",
            ),
            Fact("all in all", f"{total:.0f} s", f"{trainer.plan.threads} threads, no GPU"),
        ],
        subtitle=(
            f"A network learned on {what} which voxels belong together. Below are the "
            f"{scores.objects} objects that it found in {size} voxels it had never seen, "
            f"against {scores.labels} pieces of cells in the truth."
        ),
    )


def _outcome(results: Results) -> Section:
    how = results.parameters
    return Section(
        "What it found",
        "Left to right: the image of the held-out part, the true cells, the boundary probability "
        "that the network predicts, and the objects that follow from it. An object takes the "
        "colour of the cell that it covers most: another colour inside a cell is a wrong split, "
        "one colour across two cells a wrong merger.\n\n"
        "Merge threshold "
        f"{how.threshold:g} and seed threshold {how.seed_threshold:g} were chosen beside the "
        "training part, and so were the settings of the watershed of the bare image that the "
        "scores are compared with."
        + (" Slices are thick here, so each is segmented and judged by itself." * how.in_plane),
        pictures=[
            Picture(
                slice_panels(
                    results.image,
                    results.truth,
                    results.boundary,
                    results.objects,
                    voxel_size=results.voxel_size,
                    views=1 if how.in_plane else 3,
                ),
                "Through the middle of the held-out part.",
            )
        ],
        tables=[
            Table(
                ("held-out part", "adapted Rand error", "precision", "recall", "VI split", "merge"),
                [
                    _score_row("network", results.scores),
                    _score_row("watershed of the image", results.raw_scores),
                ],
                "Precision falls with wrong mergers, recall with wrong splits; the variation of "
                "information (VI, in bits) counts both.",
            )
        ],
    )


def _score_row(name: str, scores: Scores) -> Sequence[str]:
    return (
        name,
        f"{scores.adapted_rand_error:.4f}",
        f"{scores.precision:.4f}",
        f"{scores.recall:.4f}",
        f"{scores.vi_split:.3f}",
        f"{scores.vi_merge:.3f}",
    )


def _learning(results: Results) -> Section:
    trainer = results.trainer
    train, _, test = (results.parts.train, results.parts.tuning, results.parts.test)
    stages = [(name, f"{spent:.1f} s") for name, spent in results.seconds.items()]
    return Section(
        "How it learned",
        f"Stochastic gradient descent on {_size(trainer.output_size)} voxels per update, drawn at "
        f"random from x = {train[2].start} to {train[2].stop} with flips and transposes. "
        f"Validation looks at the part next to it, and x = {test[2].start} to {test[2].stop} is "
        "held out to the end. The same seed gives the same network, bit for bit, on any number of "
        "threads.",
        pictures=[Picture(learning_curve_figure(trainer.curve), "Loss and error per voxel.")],
        tables=[Table(("stage", "time"), stages)],
    )


def _network(results: Results) -> Section:
    network = results.trainer.network
    parameters = sum(prod(shape) for shape in network.parameter_shapes().values())
    return Section(
        "The network",
        f"{parameters:,} parameters; each output voxel sees {_size(network.field_of_view)} voxels "
        "of the image. A max-filter keeps the resolution where pooling would halve it; the "
        "convolutions after it are dilated instead.",
        pictures=[Picture(draw(network, results.trainer.output_size))],
    )


def _computing(results: Results) -> Section:
    plan = results.trainer.plan
    step = results.update_seconds
    pictures = []
    if drawn := middle(results.timeline, _UPDATES_DRAWN * step):
        pictures = [
            Picture(
                svg(span_gantt(drawn, title="What the threads did, measured while it trained")),
                "The backward pass computes gradients from the last layer to the first (type 1, "
                "the next task waits for them). Gradients of kernels, their updates and their "
                "transforms (type 2) fill the gaps, up to the moment when the next forward pass "
                "needs them and forces them.",
            )
        ]
    return Section(
        "How it was computed",
        f"Each layer runs the algorithm that is cheapest for it. An update takes {seconds(step)} "
        f"(predicted {seconds(plan.update_seconds)} from the speed that this machine showed when "
        f"it was planned) and {nbytes(plan.bytes)} of memory (predicted).",
        pictures=pictures,
        tables=[_plan_table(plan)],
    )


def _plan_table(plan: Plan) -> Table:
    header = ("layer", "type", "kernel", "channels", "output", "algorithm", "tile")
    times = ("forward", "backward", "update")
    rows = [
        (
            row.layer,
            row.kind.replace("_", "-"),
            _size(row.kernel),
            f"{row.channels[0]} → {row.channels[1]}",
            _size(row.output),
            row.algorithm,
            _size(row.tile) if row.tile else "",
            *(seconds(value) for value in (row.forward_s, row.backward_s, row.update_s)),
        )
        for row in plan.rows
    ]
    return Table((*header, *times), rows, "The plan; predicted times are those of one core.")


def _onwards(results: Results) -> Section:
    folder = _shown(results.folder)
    trainer = results.trainer
    return Section(
        "Go on from here",
        "The demo did nothing that these commands do not do. Train longer, then predict, segment "
        "and score again; or do it with a volume of your own.",
        commands=[
            f"znn-dask train {folder}/config.toml --resume "
            f"--set training.updates={trainer.step * 5}",
            f"znn-dask predict {folder}/checkpoints {_shown(Path(results.volume))}/image "
            f"{folder}/whole.zarr --border mirror",
            f"znn-dask segment {folder}/whole.zarr {folder}/whole-objects.zarr "
            f"--threshold {results.parameters.threshold:g}",
            f"znn-dask evaluate {folder}/whole-objects.zarr "
            f"{_shown(Path(results.volume))}/labels --relabel-components",
            f"znn-dask plan {folder}/network.znn --output-size 32,32,32 --gantt schedule.svg",
            "znn-dask import raw.tif mine.zarr --name image --voxel-size 8,8,8",
            "znn-dask demo --data mine.zarr --out mine-demo",
        ],
    )


def _shown(path: Path) -> str:
    """The path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _size(size: Sequence[int]) -> str:
    return "×".join(map(str, size))
