"""What is checked before a job is entered, so that what cannot work is refused at once."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from znn_dask.data import open_volume
from znn_dask.inference import settings
from znn_dask.inference.request import prepare
from znn_dask.jobs import entries
from znn_dask.jobs.access import Access, absolute
from znn_dask.jobs.folder import JobsError
from znn_dask.jobs.prediction import Prediction
from znn_dask.jobs.records import Description
from znn_dask.jobs.training import pack, places_of
from znn_dask.network import read_znn, zoo
from znn_dask.training.checkpoint import latest, load_checkpoint
from znn_dask.training.config import Config, apply_overrides, load_config, parse_config
from znn_dask.training.config_schema import VolumeEntry
from znn_dask.training.objective import objective


def describe(
    work: str | Path | Mapping[str, Any] | Config | Prediction,
    way: Access,
    title: str | None = None,
    overrides: tuple[str, ...] = (),
) -> Description:
    """The description of a job, checked here and where the jobs' folder is seen.

    Raises ValueErrors of one line: JobsError, ConfigError, NetworkError, VolumeError,
    PredictionError.
    """
    if isinstance(work, Prediction):
        if overrides:
            raise JobsError(f"overrides {overrides} are for configurations, not for predictions")
        work = _absolute(replace(work, checkpoint=_checkpoint(str(work.checkpoint), way)))
        request = way.run(_checked_prediction, work)
        return Description("prediction", title or _stem(work.out), time.time(), request)
    config, name = _config(work, overrides)
    _check_network(config)
    way.run(_check_volumes, config.data.train, config.data.validation, places_of(config))
    return Description("training", title or name, time.time(), pack(config))


def _checkpoint(name: str, way: Access) -> str:
    """The place of a checkpoint that may be named by the id of the job that made it."""
    if "/" in name or Path(name).exists():
        return name
    job = way.run(entries.find, name)
    latest = way.run(entries.checkpoints, job).latest
    if latest is None:
        raise JobsError(f"job {job} has no checkpoint yet: wait for its first one")
    return latest


def _absolute(work: Prediction) -> Prediction:
    """The same with paths that mean the same on every machine that sees them."""
    checkpoint, image, out = map(absolute, (work.checkpoint, work.image, work.out))
    options = dict(work.options)
    if options.get("region") is not None:  # slices do not survive in a file
        options["region"] = [
            [part.start, part.stop] if isinstance(part, slice) else list(part)
            for part in options["region"]
        ]
    return Prediction(checkpoint, image, out, options)


def _config(
    work: str | Path | Mapping[str, Any] | Config, overrides: tuple[str, ...]
) -> tuple[Config, str]:
    """A configuration, and what to call it."""
    if isinstance(work, str | Path):
        config = load_config(work, overrides)
        return config, Path(work).stem
    given = work.to_dict() if isinstance(work, Config) else work
    config = parse_config(apply_overrides(given, overrides))
    for key, place in places_of(config).items():
        if place != absolute(place):
            raise JobsError(
                f'{key} = "{place}" is relative, and workers have another working directory: '
                "give an absolute path or a URL that they see"
            )
    return config, config.network.zoo or Path(str(config.network.file)).stem


def _check_network(config: Config) -> None:
    """That the network exists and can learn what is asked of it."""
    section = config.network
    network = zoo.by_name(section.zoo) if section.zoo else read_znn(str(section.file))
    goal = objective(network, config.loss, config.data.target, section.output_function)
    goal.network.input_sizes(config.training.output_size)


def _check_volumes(
    location: str,
    train: tuple[VolumeEntry, ...],
    validation: tuple[VolumeEntry, ...],
    places: dict[str, str],
) -> None:
    """Where the folder is seen: that volumes and checkpoints are seen there too."""
    for key, place in places.items():
        if "://" not in place and not Path(place).exists():
            raise JobsError(
                f'{key} = "{place}" is not seen by the scheduler of the jobs: give a path that it '
                "and all workers see, or a URL"
            )
    for entry in (*train, *validation):
        volume = open_volume(entry.volume)
        for item in filter(None, (entry.image, entry.labels, entry.mask)):
            _ = volume[item]  # which says what the volume has instead
    if "network.seed_from" in places:
        load_checkpoint(places["network.seed_from"])


def _checked_prediction(location: str, work: Prediction) -> dict[str, Any]:
    """The request of a prediction, where the folder is seen: with the very checkpoint to use."""
    for what, place in (("checkpoint", work.checkpoint), ("image", work.image)):
        root = place.partition(".zarr")[0] + ".zarr" if ".zarr" in place else place
        if "://" not in place and not Path(root).exists():
            raise JobsError(
                f'{what} "{place}" is not seen by the scheduler of the jobs: give a path that it '
                "and all workers see, or a URL"
            )
    options = dict(work.options)
    prepare(work.checkpoint, work.image, settings.absolute(work.out), **options)
    newest = latest(work.checkpoint)
    return {
        "checkpoint": str(newest if newest is not None else work.checkpoint),
        "image": work.image,
        "out": work.out,
        "options": options,
    }


def _stem(place: str) -> str:
    return Path(place).stem
