"""What a training configuration may say. A field's description is what error messages expect."""

import re
from typing import Annotated, Any, Literal, Self

from dask.utils import parse_bytes
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from znn_dask.training.optimizer import SGD

Region = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

OutputFunction = Literal[
    "auto",
    "keep",
    "linear",
    "forward_logistics",
    "logistics",
    "tanh",
    "soft_sign",
    "rectify_linear",
]

LossName = Literal[
    "auto",
    "square",
    "square-square",
    "binomial",
    "softmax",
    "binomial-malis",
    "binomial-malis-num",
    "binomial-malis-pair",
    "binomial-malis-frac",
    "binomial-malis-constrained",
]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _triple(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*){2}", value):
        value = [int(part) for part in value.split(",")]  # as ZNN writes sizes
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError("not three values")
    if not all(_is_int(edge) and edge > 0 for edge in value):
        raise ValueError("not positive integers")
    return tuple(value)


def _region(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError("not three ranges")
    for bounds in value:
        if not isinstance(bounds, list | tuple) or len(bounds) != 2:
            raise ValueError("not a range")
        if not all(map(_is_int, bounds)) or not 0 <= bounds[0] < bounds[1]:
            raise ValueError("not a range of integers")
    return tuple(tuple(bounds) for bounds in value)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _some(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("not a list with entries")
    return tuple(value)


def _memory(value: Any) -> Any:
    if value != "auto" and (not isinstance(value, str) or parse_bytes(value) <= 0):
        raise ValueError("not an amount of memory")
    return value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NetworkSection(_Section):
    """[network]: one of ``file`` and ``zoo``."""

    file: str | None = Field(default=None, min_length=1, description="the path of a .znn file")
    zoo: str | None = Field(
        default=None, min_length=1, description="the name of a network in the zoo"
    )
    output_function: OutputFunction = Field(
        default="auto",
        description="auto (what the loss needs), keep (what the network says) or one of linear, "
        "forward_logistics, logistics, tanh, soft_sign, rectify_linear",
    )
    seed_from: str | None = Field(
        default=None, min_length=1, description="the path of a checkpoint to take parameters from"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.zoo is None):
            given = "neither" if self.file is None else f"{self.file!r} and {self.zoo!r}"
            raise ValueError(f"give either file (a .znn file) or zoo (a name), got {given}")
        return self


class VolumeEntry(_Section):
    """[[data.train]] and [[data.validation]]: where samples are taken from."""

    volume: str = Field(min_length=1, description="the path or URL of a volume (.zarr)")
    image: str = Field(
        default="image", min_length=1, description="the name of an image in the volume"
    )
    labels: str = Field(
        default="labels", min_length=1, description="the name of labels in the volume"
    )
    mask: str | None = Field(
        default=None, min_length=1, description="the name of a mask in the volume"
    )
    region: Annotated[Region | None, BeforeValidator(_region)] = Field(
        default=None,
        description="three ranges [[z0, z1], [y0, y1], [x0, x1]] of voxels, each 0 <= start < stop",
    )


class DataSection(_Section):
    """[data]: what is learned, from which volumes."""

    train: Annotated[tuple[VolumeEntry, ...], BeforeValidator(_some)] = Field(
        description="one or more tables [[data.train]], each with a volume"
    )
    validation: Annotated[tuple[VolumeEntry, ...], BeforeValidator(_tuple)] = Field(
        default=(), description="tables [[data.validation]], each with a volume"
    )
    target: Literal["boundary", "affinity"] = Field(
        default="boundary", description='"boundary" or "affinity"'
    )
    preprocessing: Literal["standard2D", "standard3D", "symmetric_rescale", "none"] = Field(
        default="standard2D",
        description='"standard2D", "standard3D", "symmetric_rescale" or "none"',
    )
    border: Literal["valid", "mirror"] = Field(default="valid", description='"valid" or "mirror"')
    augment: bool = Field(default=True, description="true or false")
    rebalance: Literal["none", "global", "patch"] = Field(
        default="none", description='"none", "global" or "patch"'
    )


class TrainingSection(_Section):
    """[training]: how long, how much, and where the results go."""

    output_size: Annotated[tuple[int, int, int], BeforeValidator(_triple)] = Field(
        description="three positive integers [z, y, x]"
    )
    loss: LossName = Field(
        default="auto",
        description='"auto", "square", "square-square", "binomial", "softmax" or "binomial-malis"',
    )
    updates: int = Field(gt=0, description="a positive integer")
    seed: int = Field(default=0, ge=0, description="an integer of at least 0")
    batch: int = Field(default=1, gt=0, description="a positive integer")
    checkpoint_every: int = Field(default=1000, gt=0, description="a positive integer")
    validate_every: int = Field(default=1000, gt=0, description="a positive integer")
    validation_patches: int = Field(default=16, gt=0, description="a positive integer")
    early_stopping: int = Field(
        default=0, ge=0, description="an integer of at least 0 (0: never stop early)"
    )
    folder: str = Field(
        default="checkpoints", min_length=1, description="the path or URL of a folder"
    )
    keep: int = Field(default=3, gt=0, description="a positive integer")
    dtype: Literal["float32", "float64"] = Field(
        default="float32", description='"float32" or "float64"'
    )


class OptimizerSection(_Section):
    """[optimizer]: stochastic gradient descent."""

    eta: float = Field(gt=0, allow_inf_nan=False, description="a positive number")
    momentum: float = Field(
        default=0.0, ge=0, lt=1, description="a number of at least 0 and below 1"
    )
    weight_decay: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="a number of at least 0"
    )
    anneal_factor: float = Field(default=1.0, gt=0, le=1, description="a number above 0, at most 1")
    anneal_every: int = Field(default=1000, gt=0, description="a positive integer")


class ExecutionSection(_Section):
    """[execution]: the time, never the result but for rounding (``algorithm``, ``plan`` and
    ``any_worker`` decide the bits)."""

    threads: int = Field(default=0, ge=0, description="an integer of at least 0 (0: all cores)")
    algorithm: Literal["auto", "direct", "fft", "tiled"] = Field(
        default="auto", description='"auto", "direct", "fft" or "tiled"'
    )
    plan: str | None = Field(
        default=None, min_length=1, description="the path of a plan file (made by znn-dask tune)"
    )
    any_worker: bool = Field(default=False, description="true or false")
    memory_limit: Annotated[str, BeforeValidator(_memory)] = Field(
        default="auto", description='"auto" or an amount such as "8 GiB"'
    )

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.plan is not None and self.algorithm != "auto":
            raise ValueError(
                f"plan {self.plan!r} says how each layer is computed: leave out algorithm "
                f"{self.algorithm!r}"
            )
        return self

    @property
    def memory_bytes(self) -> int | None:
        """Memory limit in bytes, None for "auto"."""
        return None if self.memory_limit == "auto" else int(parse_bytes(self.memory_limit))


class Config(_Section):
    """A whole training configuration."""

    network: NetworkSection = Field(description="a table [network]")
    data: DataSection = Field(description="a table [data]")
    training: TrainingSection = Field(description="a table [training]")
    optimizer: OptimizerSection = Field(description="a table [optimizer]")
    execution: ExecutionSection = Field(
        default=ExecutionSection(), description="a table [execution]"
    )

    @property
    def sgd(self) -> SGD:
        """The [optimizer] section as the optimizer itself."""
        return SGD(**self.optimizer.model_dump())

    @property
    def loss(self) -> str:
        """Name of the loss, "auto" resolved as ZNN does: boundary softmax, affinity binomial."""
        if self.training.loss != "auto":
            return self.training.loss
        return {"boundary": "softmax", "affinity": "binomial"}[self.data.target]

    def to_dict(self) -> dict[str, Any]:
        """JSON values of every setting, defaults included; `parse_config` reads them."""
        return self.model_dump(mode="json")
