"""From a training configuration to a trainer, and what is left beside its checkpoints."""

import json
from collections.abc import Sequence
from typing import Any

import fsspec
from distributed import Client
from rich.console import Console

from znn_dask.data import PatchSampler, Volume, open_volume
from znn_dask.data.targets import Target
from znn_dask.network import Network, read_znn, zoo
from znn_dask.taskgraph.plan_file import read_plan
from znn_dask.training.checkpoint import CheckpointState, list_checkpoints, load_checkpoint
from znn_dask.training.config import Config, ConfigError
from znn_dask.training.config_schema import DataSection, VolumeEntry
from znn_dask.training.initial import initial_parameters
from znn_dask.training.objective import objective
from znn_dask.training.seeding import seed_parameters
from znn_dask.training.trainer import Trainer
from znn_dask.training.watching import Watcher


def trainer_from_config(
    config: Config,
    client: Client | None = None,
    resume: bool | str = False,
    *,
    progress: bool = True,
    watchers: Sequence[Watcher] = (),
    prune: bool = True,
    home: str | None = None,
) -> Trainer:
    """The trainer that a configuration describes, at its first step or, to `resume`, its latest.

    client: where it will run; the current cluster, or a new local one, when not given.
    resume: a checkpoint to go on from, where it is not the latest one in the training's folder.
    watchers: who else is told how it goes.
    home: address of the worker to use first among equal ones.
    prune: remove checkpoints as training.keep says; all are kept otherwise.

    Raises ConfigError where the configuration contradicts itself or its folder, and what `Trainer`
    and its parts raise (ValueErrors of one line).
    """
    training, data = config.training, config.data
    network = _network(config)
    folder = training.folder
    if not resume:
        _refuse_mixing(folder)
    elif resume is True and not list_checkpoints(folder):
        raise ConfigError(f"{folder} holds no checkpoint to resume from; train without --resume")
    arithmetic = None
    if config.execution.plan is not None:
        plan = read_plan(config.execution.plan, network, training.output_size, training.dtype)
        arithmetic = plan.arithmetic
    parameters = None
    if config.network.seed_from is not None and not resume:
        source = load_checkpoint(config.network.seed_from)
        goal = objective(network, config.loss, data.target, config.network.output_function)
        own = initial_parameters(goal.network, training.seed, training.dtype)
        parameters, report = seed_parameters(goal.network, own, source.parameters)
        if progress:
            Console(stderr=True).print(str(report), markup=False, highlight=False, soft_wrap=True)
    return Trainer(
        network,
        _volumes(data.train),
        training.output_size,
        loss=config.loss,
        target=data.target,
        output_function=config.network.output_function,
        optimizer=config.sgd,
        validation=_validation(config, network),
        seed=training.seed,
        batch=training.batch,
        dtype=training.dtype,
        algorithm=config.execution.algorithm,
        arithmetic=arithmetic,
        memory_limit=config.execution.memory_bytes,
        folder=folder,
        checkpoint_every=training.checkpoint_every,
        validate_every=training.validate_every,
        validation_patches=training.validation_patches,
        early_stopping=training.early_stopping,
        keep=training.keep if prune else None,
        resume=(folder if resume is True else resume) or None,
        parameters=parameters,
        client=client,
        any_worker=config.execution.any_worker,
        home=home,
        config=config.to_dict(),
        progress=progress,
        watchers=watchers,
        augment=data.augment,
        **_sampling(data, data.train, network, "data.train"),
    )


def finished(trainer: Trainer, config: Config) -> bool:
    """Whether nothing is left to do: all updates are made, or validation said stop."""
    stalled = trainer.curve.stalled(config.training.early_stopping)
    return stalled or trainer.step >= config.training.updates


def save_curve(trainer: Trainer | CheckpointState, folder: str) -> str:
    """Write the learning curve beside the checkpoints, as picture and JSON; returns the picture."""
    from znn_dask.training.figure import learning_curve_png  # slow to import, for a picture

    picture = f"{folder}/learning-curve.png"
    title = f"{trainer.step:,} updates, loss {trainer.loss}"
    with fsspec.open(picture, "wb") as file:
        file.write(learning_curve_png(trainer.curve, title))
    with fsspec.open(f"{folder}/learning-curve.json", "w", encoding="utf-8") as file:
        json.dump(trainer.curve.to_json(), file)
    return picture


def _network(config: Config) -> Network:
    section = config.network
    if section.file is not None:
        return read_znn(section.file)
    assert section.zoo is not None  # the configuration has one of both
    return zoo.by_name(section.zoo, Target(config.data.target).channels)


def _refuse_mixing(folder: str) -> None:
    """Two trainings in one folder would remove each other's checkpoints."""
    if earlier := list_checkpoints(folder):
        raise ConfigError(
            f"{folder} holds a training already ({earlier[-1].step} updates); go on with --resume, "
            "or choose another training.folder"
        )


def _volumes(entries: Sequence[VolumeEntry]) -> list[Volume]:
    return [open_volume(entry.volume) for entry in entries]


def _sampling(
    data: DataSection, entries: Sequence[VolumeEntry], network: Network, key: str
) -> dict[str, Any]:
    """Arguments of `PatchSampler` that these entries ask for."""
    first = entries[0]
    for entry in entries[1:]:
        for name in ("image", "labels", "mask"):
            here, there = getattr(entry, name), getattr(first, name)
            if here != there:
                raise ConfigError(
                    f"{key}: {name} is {there!r} in {first.volume} but {here!r} in {entry.volume}; "
                    "give the items of all volumes the same names"
                )
    return {
        "images": {node.name: first.image for node in network.inputs},
        "labels": {node.name: first.labels for node in network.outputs},
        "mask": first.mask,
        "region": [entry.region for entry in entries],
        "preprocessing": data.preprocessing,
        "border": data.border,
        "balance": data.rebalance,
    }


def _validation(config: Config, network: Network) -> PatchSampler | None:
    """Held-out patches: never augmented, the same ones every time."""
    data, training = config.data, config.training
    if not data.validation:
        return None
    return PatchSampler(
        _volumes(data.validation),
        network.input_sizes(training.output_size),
        {node.name: training.output_size for node in network.outputs},
        data.target,
        seed=training.seed + 1,
        augment=False,
        **_sampling(data, data.validation, network, "data.validation"),
    )
