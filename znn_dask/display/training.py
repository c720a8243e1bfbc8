"""Trainings and checkpoints: how far they are, how they learn, what they were given."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from znn_dask.display.network import network_table, parameter_count
from znn_dask.display.page import facts, folded, harmless, note, page, table
from znn_dask.network import parse_znn
from znn_dask.network.geometry import show
from znn_dask.training.curve import LearningCurve
from znn_dask.training.curve_svg import curve_svg
from znn_dask.training.state import CheckpointState
from znn_dask.training.trainer import Trainer


@harmless
def trainer_html(trainer: Trainer) -> str:
    """How far it is, and the curve with validation."""
    net = trainer.network
    rows = [
        (
            "network",
            f"{parameter_count(net):,} parameters, field of view {show(net.field_of_view)}",
        ),
        ("output patch", f"{show(trainer.output_size)}, {trainer.batch} in a batch"),
        ("target, loss", f"{trainer.target}, {trainer.loss}"),
        ("optimizer", _settings(trainer.optimizer.to_dict())),
        ("checkpoint", str(trainer.checkpoint or "none yet")),
    ]
    return page(f"Training, {trainer.step:,} updates", facts(rows), *_curve(trainer.curve))


@harmless
def checkpoint_html(state: CheckpointState) -> str:
    """Step, losses, settings, curve, and the network."""
    network = parse_znn(state.network)
    rows = [
        ("output patch", f"{show(state.output_size)}, {state.data.get('batch', 1)} in a batch"),
        ("target, loss", f"{state.target}, {state.loss}"),
        ("optimizer", _settings(state.optimizer)),
        ("preprocessing", _settings(state.preprocessing)),
        ("seed", str(state.seed)),
        ("parameters", f"{sum(p.size for p in state.parameters.values()):,}"),
        ("trained with", _settings(state.libraries)),
    ]
    parameters = [
        (name, show(array.shape), str(array.dtype), f"{array.mean():.3g}", f"{array.std():.3g}")
        for name, array in state.parameters.items()
    ]
    columns = ("parameter", "shape", "dtype", "mean", "deviation")
    return page(
        f"Checkpoint after {state.step:,} updates",
        facts((name, value) for name, value in rows if value),
        *_curve(state.curve),
        folded("network", network_table(network)),
        folded("parameters", table(columns, parameters, ("mean", "deviation"))),
    )


def _curve(curve: LearningCurve) -> Iterator[str]:
    if not curve.train:
        yield note("no updates yet")
        return
    last, best = curve.train[-1], curve.best()
    text = f"last loss {last.loss:.4g}, {last.error:.1%} misclassified"
    if best is not None:
        text += f"; best validation loss {best.loss:.4g} after {best.step:,} updates"
    yield note(text)
    yield curve_svg(curve)


def _settings(values: Mapping[str, Any]) -> str:
    """`{"eta": 0.1}` as "eta 0.1"; values that are long are left out."""
    texts = (
        (k, v if isinstance(v, str) else json.dumps(v, default=str)) for k, v in values.items()
    )
    return ", ".join(f"{key} {text}" for key, text in texts if 0 < len(text) <= 40)
