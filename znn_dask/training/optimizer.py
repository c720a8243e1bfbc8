"""Settings of stochastic gradient descent; the learning rate is a pure function of the step."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True)
class SGD:
    """Gradient descent with classic momentum, weight decay and stepwise annealing.

    The arithmetic of an update is in ``znn_dask.kernels.update``; this class holds its settings.

    Parameters
    ----------
    eta
        Learning rate of the first update, positive. The gradient it multiplies is divided by the
        voxels of one output map, not by its channels (ZNN semantics of the update).
    momentum
        Fraction of the previous velocity that is kept, 0 <= momentum < 1.
    weight_decay
        Decay per update relative to ``eta``, not negative.
    anneal_factor
        What ``eta`` is multiplied by every ``anneal_every`` updates, in (0, 1].
    anneal_every
        Updates between two multiplications, positive.

    Raises
    ------
    ValueError
        A setting is out of its range; names the setting, the value and the range.
    """

    eta: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    anneal_factor: float = 1.0
    anneal_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("eta", "momentum", "weight_decay", "anneal_factor"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"SGD: {name} must be a number, got {value!r}")
        _require(self.eta > 0 and math.isfinite(self.eta), "eta", self.eta, "positive and finite")
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "at least 0 and below 1")
        _require(
            self.weight_decay >= 0 and math.isfinite(self.weight_decay),
            "weight_decay",
            self.weight_decay,
            "finite and not negative",
        )
        _require(0 < self.anneal_factor <= 1, "anneal_factor", self.anneal_factor, "in (0, 1]")
        if isinstance(self.anneal_every, bool) or not isinstance(self.anneal_every, int):
            raise ValueError(f"SGD: anneal_every must be an integer, got {self.anneal_every!r}")
        _require(self.anneal_every >= 1, "anneal_every", self.anneal_every, "at least 1")

    def eta_at(self, step: int) -> float:
        """Learning rate of the update that follows ``step`` finished updates.

        The first ``anneal_every`` updates use ``eta``, the next ones ``eta * anneal_factor``,
        and so on: ZNN multiplies at the end of an iteration, after its update. A resumed ZNN starts
        again from the configured rate; here training continues where it was, because the rate
        depends on the step alone.

        Raises
        ------
        ValueError
            ``step`` is negative.
        """
        if step < 0:
            raise ValueError(f"SGD: eta_at needs a step of at least 0, got {step}")
        return float(self.eta * self.anneal_factor ** (step // self.anneal_every))

    def to_dict(self) -> dict[str, Any]:
        """Settings as JSON values, with ``"kind": "sgd"``."""
        return {"kind": "sgd", **asdict(self)}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Inverse of `to_dict`.

        Raises
        ------
        ValueError
            Another kind of optimizer, or a setting that SGD does not have.
        """
        kind = settings.get("kind", "sgd")
        if kind != "sgd":
            raise ValueError(f'SGD: settings are for optimizer {kind!r}, expected "sgd"')
        known = [field.name for field in fields(cls)]
        values = {name: value for name, value in settings.items() if name != "kind"}
        for name, value in values.items():
            if name not in known:
                raise ValueError(
                    f"SGD: unknown setting {name} = {value!r}; known: {', '.join(known)}"
                )
        if "eta" not in values:
            raise ValueError(f"SGD: settings without eta, got {', '.join(values) or 'nothing'}")
        return cls(**values)


def _require(holds: bool, name: str, value: float, expected: str) -> None:
    if not holds:
        raise ValueError(f"SGD: {name} must be {expected}, got {value!r}")
