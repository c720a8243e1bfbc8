"""Trainings as jobs: the configuration that travels, and the driver's part."""

import tempfile
import time
from pathlib import Path
from typing import Any

from distributed import Client

from znn_dask.cluster.checks import check_cluster
from znn_dask.jobs.attempt import Attempt
from znn_dask.jobs.checkpoints import job_checkpoints, prune
from znn_dask.jobs.records import Outcome, checkpoints_name
from znn_dask.training.config import Config, parse_config
from znn_dask.training.from_config import finished, trainer_from_config
from znn_dask.training.watching import Run, Watcher

_SAY_SECONDS = 30.0


def pack(config: Config) -> dict[str, Any]:
    """What a job keeps of a configuration: with it the files that only this machine may see."""
    files = {}
    if config.network.file is not None:
        files["network.znn"] = Path(config.network.file).read_text(encoding="utf-8")
    if config.execution.plan is not None:
        files["plan.json"] = Path(config.execution.plan).read_text(encoding="utf-8")
    return {"config": config.to_dict(), "files": files}


def unpack(request: dict[str, Any], folder: Path) -> Config:
    """The configuration of a job; the files that came with it are written to `folder`."""
    settings = request["config"]
    places = {"network.znn": ("network", "file"), "plan.json": ("execution", "plan")}
    for name, content in request["files"].items():
        (folder / name).write_text(content, encoding="utf-8")
        section, key = places[name]
        settings = {**settings, section: {**settings[section], key: str(folder / name)}}
    return parse_config(settings, source="job")


def places_of(config: Config) -> dict[str, str]:
    """Key -> path or URL of what workers must see."""
    data = config.data
    found = {f"data.train.{i}.volume": entry.volume for i, entry in enumerate(data.train)}
    for i, entry in enumerate(data.validation):
        found[f"data.validation.{i}.volume"] = entry.volume
    if config.network.seed_from is not None:
        found["network.seed_from"] = config.network.seed_from
    return found


def train(attempt: Attempt, client: Client) -> tuple[Outcome, str]:
    """Train as the job says, from where earlier attempts came; how it ended, and why."""
    claim = attempt.claim
    with tempfile.TemporaryDirectory(prefix="znn-job-") as folder:
        config = unpack(attempt.history.description.request, Path(folder))
        own = f"{attempt.location}/{checkpoints_name(claim.attempt)}"
        training = config.training.model_copy(update={"folder": own})
        config = config.model_copy(update={"training": training})
        origin = None
        if claim.origin is not None:
            origin = f"{attempt.location}/{checkpoints_name(claim.origin[0])}/{claim.origin[1]}"
        recorder = _Recorder(attempt, training.keep)
        trainer = trainer_from_config(
            config,
            client,
            origin or False,
            progress=False,
            watchers=[recorder],
            prune=False,
            home=claim.worker,
        )
    attempt.report(step=trainer.step, last=training.updates)
    attempt.on_stop = trainer.stop
    for line in check_cluster(client, batch=training.batch):
        attempt.say(f"warning: {line}")
    if not attempt.stopping:
        trainer.fit(training.updates)
    if finished(trainer, config):
        return "completed", ""
    return "cancelled", f"after update {trainer.step}"


class _Recorder(Watcher):
    """Writes down how the training goes, and keeps a driver that was replaced from writing."""

    def __init__(self, attempt: Attempt, keep: int) -> None:
        self._attempt = attempt
        self._keep = keep
        self._first: tuple[float, int] | None = None
        self._last = 0
        self._said = 0.0

    def begin(self, run: Run) -> None:
        self._last = run.last
        self._attempt.report(step=run.first, last=run.last, voxels=run.voxels)

    def update(self, step: int, loss: float) -> None:
        now = time.monotonic()
        if self._first is None or step < self._first[1]:
            self._first = now, step
        began, first = self._first
        rate = (step - first) / (now - began) if now > began else None
        self._attempt.report(step=step, loss=loss, rate=rate)
        if now - self._said > _SAY_SECONDS:
            self._said = now
            pace = "" if rate is None else f", {rate:.3g} updates/s"
            self._attempt.say(f"update {step:,} of {self._last:,}: loss {loss:.4g}{pace}")

    def validated(self, step: int, loss: float) -> None:
        self._attempt.report(validation=loss)
        self._attempt.say(f"update {step:,}: validation loss {loss:.4g}")

    def saving(self, step: int) -> None:
        self._attempt.check()

    def saved(self, step: int, checkpoint: str | Path) -> None:
        self._attempt.say(f"update {step:,}: checkpoint {Path(str(checkpoint)).name}")
        # Only now, and not before the checkpoint was there: an attempt claimed since names it or a
        # later one, and one that was claimed before is noticed here.
        self._attempt.check()
        prune(job_checkpoints(self._attempt.location, self._attempt.history.claims), self._keep)

    def message(self, text: str) -> None:
        self._attempt.say(text)
