"""Content of a checkpoint, and its form as JSON settings plus named arrays."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np

from znn_dask.training.curve import LearningCurve

VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint cannot be written, found or read."""


@dataclass(frozen=True, eq=False)
class CheckpointState:
    """Everything that decides how training continues after ``step`` updates.

    Args:
        network: the network as .znn text.
        parameters: ``"edge.filters"`` (in,out,kz,ky,kx), ``"node.biases"`` (n,), float32 | float64.
        momenta: velocities, same keys, shapes and dtypes.
        step: updates finished.
        optimizer: `SGD.to_dict`.
        seed: seed of everything random.
        loss: name of the loss.
        target: ``"boundary"`` or ``"affinity"``, what the outputs mean.
        output_size: output patch z,y,x.
        preprocessing: of the images, with the statistics that prediction must apply as well.
        plan: arithmetic half of the plan, which decides the bits.
        config: configuration the training was started with.
        data: fingerprint of the training data.
        libraries: `library_fingerprint` of the process that trained.
        curve: learning curve up to ``step``.
        version: of the format; `load_checkpoint` fills it in.

    All dictionaries hold JSON values: tuples come back as lists.
    """

    network: str
    parameters: Mapping[str, np.ndarray]
    momenta: Mapping[str, np.ndarray]
    step: int
    optimizer: Mapping[str, Any]
    seed: int
    loss: str
    target: str
    output_size: tuple[int, int, int]
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    curve: LearningCurve = field(default_factory=LearningCurve)
    version: int = VERSION

    def __repr__(self) -> str:
        size = ",".join(map(str, self.output_size))
        count = sum(parameter.size for parameter in self.parameters.values())
        return (
            f"Checkpoint after {self.step:,} updates: {self.target}, {self.loss} loss, "
            f"output patch {size}, {count:,} parameters\n  {self.curve!r}"
        )

    def _repr_html_(self) -> str | None:
        from znn_dask.display.training import checkpoint_html

        return checkpoint_html(self)


_SETTINGS = (
    *("network", "step", "optimizer", "seed", "loss", "target", "output_size", "preprocessing"),
    *("plan", "config", "data", "libraries"),
)


def verify(state: CheckpointState) -> None:
    """Refuse what must not be saved.

    Raises:
        CheckpointError: parameters and momenta disagree, or a value is not finite.
    """
    if state.parameters.keys() != state.momenta.keys():
        name = sorted(state.parameters.keys() ^ state.momenta.keys())[0]
        here = "parameters" if name in state.parameters else "momenta"
        raise CheckpointError(f"checkpoint: {name} is only in the {here}; both need the same names")
    for name, parameter in state.parameters.items():
        momentum = state.momenta[name]
        if (parameter.shape, parameter.dtype) != (momentum.shape, momentum.dtype):
            raise CheckpointError(
                f"checkpoint: {name} is {parameter.dtype} {parameter.shape}, "
                f"its momentum {momentum.dtype} {momentum.shape}; they must agree"
            )
        for kind, array in (("parameter", parameter), ("momentum of", momentum)):
            wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
            if wrong:
                raise CheckpointError(
                    f"checkpoint: {kind} {name} has {wrong} of {array.size} values that are not "
                    f"finite at step {state.step}; lower optimizer.eta and resume from the last "
                    "checkpoint"
                )


def to_arrays(state: CheckpointState) -> dict[str, np.ndarray]:
    """All arrays by path: ``parameters/NAME``, ``momenta/NAME``, ``curve/COLUMN``."""
    parts: tuple[tuple[str, Mapping[str, np.ndarray]], ...] = (
        ("parameters", state.parameters),
        ("momenta", state.momenta),
        ("curve", state.curve.to_arrays()),
    )
    return {
        f"{part}/{name}": np.ascontiguousarray(array)
        for part, arrays in parts
        for name, array in arrays.items()
    }


def from_content(settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> CheckpointState:
    """Inverse of `to_settings` and `to_arrays`."""
    z, y, x = settings["output_size"]
    return CheckpointState(
        **{name: settings[name] for name in _SETTINGS if name != "output_size"},
        output_size=(z, y, x),
        parameters=_part(arrays, "parameters"),
        momenta=_part(arrays, "momenta"),
        curve=LearningCurve.from_arrays(_part(arrays, "curve")),
        version=settings["version"],
    )


def _part(arrays: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    return {
        path.removeprefix(f"{part}/"): array
        for path, array in arrays.items()
        if path.startswith(f"{part}/")
    }


def zarr_key(path: str) -> str:
    """Zarr key of ``part/name``: layer names may hold characters that paths must not."""
    part, _, name = path.partition("/")
    return f"{part}/{quote(name, safe='')}"


def to_settings(state: CheckpointState) -> dict[str, Any]:
    """Everything but the arrays as JSON values, exactly as they will be read back.

    Raises:
        CheckpointError: a setting is not JSON.
    """
    settings = {name: getattr(state, name) for name in _SETTINGS}
    settings |= {"version": VERSION, "arrays": list(to_arrays(state))}
    for name, value in settings.items():
        try:
            # As it will be read back, so that the digest is of what the reader sees.
            settings[name] = json.loads(json.dumps(value, default=_plain))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"checkpoint: {name} is not JSON: {error}") from error
    return settings


def content_digest(settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the decoded content: names, dtypes, shapes and every byte."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path, array in arrays.items():
        digest.update(f"\n{path} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot store a {type(value).__name__}: {value!r}")
