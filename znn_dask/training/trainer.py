"""The trainer: settings, learning curve and checkpoints of one training.

When a worker is lost, the next epoch replays from the last snapshot to the same bits: there is one
in memory about every minute, however rare checkpoints are.
"""

import math
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import distributed
import numpy as np
from distributed import Client

from znn_dask.cluster.checks import ClusterError, ClusterWarning, warn_about
from znn_dask.cluster.fingerprint import Fingerprint, difference, library_fingerprint
from znn_dask.cluster.local import cores, local_cluster
from znn_dask.cluster.room import fit_workers
from znn_dask.cluster.session import LOST, Session
from znn_dask.cluster.work import TrainingSpec
from znn_dask.kernels.geometry import Triple
from znn_dask.network import Network, format_znn
from znn_dask.taskgraph.arithmetic import Arithmetic
from znn_dask.taskgraph.cluster_schedule import Estimate
from znn_dask.taskgraph.engine import TaskError
from znn_dask.taskgraph.losses import per_step
from znn_dask.taskgraph.plan import plan
from znn_dask.taskgraph.plan_file import check_arithmetic
from znn_dask.taskgraph.state import Parameters, UpdateRule
from znn_dask.training.checkpoint import (
    CheckpointError,
    CheckpointState,
    load_checkpoint,
    save_checkpoint,
)
from znn_dask.training.continuation import check_continuation, kept_arithmetic
from znn_dask.training.curve import LearningCurve
from znn_dask.training.initial import initial_parameters
from znn_dask.training.live import Live
from znn_dask.training.loop import Cadence, Loop, stopping_on_signals
from znn_dask.training.objective import objective
from znn_dask.training.optimizer import SGD
from znn_dask.training.patches import patch_sources
from znn_dask.training.publishing import Publisher
from znn_dask.training.screen import in_notebook
from znn_dask.training.watching import Bar, Run, Watcher, Watchers

_MOST_RESTARTS = 5  # without a new snapshot in between


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and where the last good checkpoint is."""


class Trainer:
    """Trains a network on patches of a volume.

    Parameters
    ----------
    network
        What to train; its outputs get the function that the loss needs (see `objective`).
    volume
        A `Volume`, its path, several of them, or a `PatchSampler`.
    output_size
        Output patch (z, y, x) in voxels.
    loss
        "auto", "softmax", "binomial", "square" or "square-square".
    optimizer
        Rate, momentum, weight decay and annealing; `SGD(0.002, momentum=0.9)` when not given.
    target
        "auto", "boundary" or "affinity".
    output_function
        "auto" (what the loss needs), "keep" (what the network says) or a function's name.
    validation
        Volume(s) or a `PatchSampler` to validate on.
    algorithm, arithmetic
        How convolutions are computed: "auto", "direct", "fft" or "tiled" for all of them, or the
        whole arithmetic, of `znn.tune` or `znn.read_plan`. What is resumed keeps its own.
    seed
        Of initial parameters, patches and dropout.
    batch
        Patches per update; gradients are averaged over them.
    folder
        Where checkpoints go (path or URL).
    checkpoint_every, validate_every
        Updates between checkpoints and between validations (each of which is a checkpoint too).
    validation_patches
        Patches per validation, the same ones every time.
    early_stopping
        Stop after that many validations without improvement; 0 never does.
    keep
        Checkpoints to keep besides the best; None: all.
    resume
        A checkpoint or a folder of them to go on from.
    parameters
        Initial parameters in ZNN's layout, drawn by the network's `init` when not given.
    client
        The cluster; `local_cluster()` when not given.
    any_worker
        Use workers whose libraries differ too: faster, but the bits depend on who computed what.
    home
        Address of the worker to use first among equal ones, where a batch does not need all.
    config
        Kept in the checkpoints for the record.
    progress
        Show the curve in a notebook, a bar in a terminal, or a line now and then elsewhere.
    watchers
        Who else is told how it goes (`Watcher`).
    sampling
        Further arguments of `PatchSampler`: region, validation_region, border, augment, balance,
        preprocessing, images, labels, mask.

    Attributes
    ----------
    step
        Updates made.
    checkpoint
        Path or URL of the last checkpoint, None before the first.
    curve
        The learning curve: `curve.train` and `curve.validation`.
    plan
        How an update runs.

    Raises
    ------
    ValueError, NetworkError, VolumeError, PlanError
        In one line, when the parts do not fit together.
    """

    def __init__(
        self,
        network: Network,
        volume: Any,
        output_size: Triple,
        *,
        loss: str = "auto",
        optimizer: SGD | None = None,
        target: str = "auto",
        output_function: str = "auto",
        validation: Any = None,
        seed: int = 0,
        batch: int = 1,
        dtype: str = "float32",
        algorithm: str = "auto",
        arithmetic: Arithmetic | None = None,
        memory_limit: int | None = None,
        folder: str | Path = "checkpoints",
        checkpoint_every: int = 1000,
        validate_every: int = 1000,
        validation_patches: int = 16,
        early_stopping: int = 0,
        keep: int | None = 3,
        resume: str | Path | None = None,
        parameters: Parameters | None = None,
        client: Client | None = None,
        any_worker: bool = False,
        home: str | None = None,
        config: dict[str, Any] | None = None,
        progress: bool = True,
        watchers: Sequence[Watcher] = (),
        **sampling: Any,
    ) -> None:
        goal = objective(network, loss, target, output_function)
        self.network, self.loss, self.target = goal.network, goal.loss, goal.target
        # At 0.01 the large fan-in of 3D kernels saturates the outputs in the first updates.
        self.optimizer = optimizer or SGD(0.002, momentum=0.9)
        self.output_size = output_size
        self.seed, self.batch = seed, batch
        self._voxels = batch * math.prod(output_size)  # of one output map, over the batch
        self._last_rule: UpdateRule | None = None
        self.folder = folder
        self._cadence = Cadence(
            checkpoint_every, validate_every, validation_patches if validation is not None else 0
        )
        self.keep, self.early_stopping = keep, early_stopping
        self.config = config or {}
        self.curve = LearningCurve()
        self.step = self._kept_step = 0
        self.checkpoint: str | Path | None = None
        self._checkpoint_step = 0
        shown = [Live() if in_notebook() else Bar()] if progress else []
        self._watchers = Watchers([*watchers, Publisher(), *shown])
        self._loop: Loop | None = None
        self._stopping = False
        self._any_worker, self._home = any_worker, home
        saved = None if resume is None else load_checkpoint(resume)
        if arithmetic is not None:
            check_arithmetic(arithmetic, self.network, output_size, dtype)
        if saved is not None:
            arithmetic = kept_arithmetic(saved, arithmetic, dtype)
        self.plan = plan(
            self.network,
            output_size,
            threads=cores(),
            patches=batch,
            dtype=dtype,
            algorithm=algorithm,
            arithmetic=arithmetic,
            memory_limit=memory_limit,
        )
        self.source, self.validation = patch_sources(
            *(self.network, self.target, output_size), volume, validation, seed, sampling
        )
        self._parameters = parameters or initial_parameters(self.network, seed, dtype)
        self._momenta = {name: np.zeros_like(p) for name, p in self._parameters.items()}
        self._libraries = library_fingerprint() if saved is None else dict(saved.libraries)
        if saved is not None:
            check_continuation(saved, self.state)
            self._parameters, self._momenta = dict(saved.parameters), dict(saved.momenta)
            self.step = self._kept_step = self._checkpoint_step = saved.step
            self.curve, self.checkpoint = saved.curve, resume
        self._client = client

    def __repr__(self) -> str:
        size = ",".join(map(str, self.output_size))
        return (
            f"Trainer after {self.step:,} updates: {self.target}, {self.loss} loss, "
            f"output patch {size}, {self.batch} in a batch\n  {self.curve!r}\n"
            f"  checkpoint: {self.checkpoint or 'none yet'}"
        )

    def _repr_html_(self) -> str | None:
        from znn_dask.display.training import trainer_html

        return trainer_html(self)

    @property
    def client(self) -> Client:
        """The cluster: the one given, the current one, or a new `local_cluster()`."""
        if self._client is None:
            try:
                self._client = distributed.default_client()
            except ValueError:
                self._client = local_cluster()
        return self._client

    def fit(self, updates: int) -> LearningCurve:
        """Train until `updates` updates have been made in all, and leave a checkpoint.

        Ctrl-C finishes what is under way and leaves a checkpoint too; `fit` goes on from there.

        Raises
        ------
        PlanError
            If a worker has less memory than training takes.
        TrainingError
            If the loss, a gradient or a parameter is not finite, if a checkpoint cannot be
            written, or if workers are lost again and again.
        """
        if self.step >= updates:
            return self.curve
        warn_about(self.client, batch=self.batch)
        self.plan = fit_workers(self.plan, self.client, self.batch)
        spec = TrainingSpec(
            *(self.network, self.plan.arithmetic, self.loss, self.source, self.seed, self.batch),
            *(self.validation, self.plan.execution),
        )
        session = Session(
            self.client,
            spec,
            whole_steps=self.plan.steps_per_granule > 0,
            estimate=Estimate(self.plan, self.plan.machine),
            libraries=self._libraries if self._kept_step else None,
            any_worker=self._any_worker,
            home=self._home,
        )
        # A granule of whole updates holds as many patches, whatever the batch.
        steps = max(1, self.plan.steps_per_granule // self.batch)
        restarts, reached = 0, -1
        try:
            with self._watchers.during(Run(self, self.step, updates, self._voxels, session.job)):
                while True:
                    self._loop = loop = Loop(session, self._cadence, self._rule, steps)
                    try:
                        session.start(self._parameters, self._momenta, self.step)
                        self._note_libraries(session.crew.libraries)
                        if self._stopping:
                            loop.stop()
                        with stopping_on_signals(loop):
                            self._follow(loop, updates)
                        return self.curve
                    except LOST as error:
                        restarts = restarts + 1 if self._kept_step == reached else 1
                        reached = self._kept_step
                        if restarts > _MOST_RESTARTS:
                            raise ClusterError(f"workers were lost {restarts} times") from error
                        self._rewind()
                        self._watchers.message(
                            f"a worker was lost; replaying from update {self.step}"
                        )
        except ClusterError as error:
            self._rewind()
            if self._kept_step > self._checkpoint_step:
                self._save()
            raise self._failure(str(error)) from error
        except TaskError as error:
            raise self._failure(str(error)) from error
        finally:
            self._loop, self._stopping = None, False
            self._rewind()
            session.close()

    def stop(self) -> None:
        """End a running `fit` as Ctrl-C does, with a checkpoint; from any thread."""
        self._stopping = self._loop is not None
        if self._loop is not None:
            self._loop.stop()

    def _follow(self, loop: Loop, updates: int) -> None:
        """Record what the loop brings until it ends or validation says stop."""
        before = self.curve.train[-1].seconds if len(self.curve.train) else 0.0
        started = time.monotonic() - before
        for outcome in loop.run(self.step, updates):
            seconds = time.monotonic() - started
            for record in per_step(outcome.records):
                self.curve.train.append(record.step + 1, record.loss, record.error, seconds)
            self.step = outcome.step
            self._watchers.update(self.step, self.curve.train[-1].loss)
            if outcome.validation is not None:
                held_out = outcome.validation
                self.curve.validation.append(self.step, held_out.loss, held_out.error, seconds)
                self._watchers.validated(self.step, held_out.loss)
            if outcome.parameters is not None and outcome.momenta is not None:
                self._keep(outcome.parameters, outcome.momenta, checkpoint=outcome.checkpoint)
            if self.curve.stalled(self.early_stopping):
                reason = f"no improvement in {self.early_stopping} validations"
                self._watchers.message(f"{reason}; stopping")
                return
        if self.step > self._kept_step:
            self._watchers.message(f"a worker was lost; stopping at update {self._kept_step}")
            self._rewind()
            if self._kept_step > self._checkpoint_step:
                self._save()
        if self.step < updates:
            self._watchers.message(
                f"stopped after update {self.step:,} of {updates:,}, with a checkpoint to go on from"
            )

    def _keep(self, parameters: Parameters, momenta: Parameters, *, checkpoint: bool) -> None:
        """Take a snapshot as what to go on from; where its checkpoint fails, the last one is."""
        before = self._parameters, self._momenta, self._kept_step
        self._parameters, self._momenta, self._kept_step = parameters, momenta, self.step
        if checkpoint:
            try:
                self._save()
            except TrainingError:
                self._parameters, self._momenta, self._kept_step = before
                raise

    def _save(self) -> None:
        """Write a checkpoint of the last snapshot."""
        self._watchers.saving(self._kept_step)
        try:
            self.checkpoint = save_checkpoint(self.folder, self.state, keep=self.keep)
        except CheckpointError as error:
            raise self._failure(str(error)) from error
        self._checkpoint_step = self._kept_step
        self._watchers.saved(self._kept_step, self.checkpoint)

    def _note_libraries(self, found: Fingerprint | None) -> None:
        """Remember what the workers compute with, for the checkpoints."""
        before, self._libraries = self._libraries, found or {}
        different = difference(before, self._libraries, "before", "now")
        if self._kept_step and different:
            warnings.warn(
                f"libraries changed since update {self._kept_step}, bits may differ from those of "
                f"an uninterrupted training: {different}",
                ClusterWarning,
                stacklevel=3,
            )

    @property
    def parameters(self) -> Parameters:
        """Parameters of the last snapshot (or the initial ones), ZNN's layout."""
        return self._parameters

    @property
    def state(self) -> CheckpointState:
        """All that a checkpoint holds, as of the last snapshot."""
        return CheckpointState(
            network=format_znn(self.network),
            parameters=self._parameters,
            momenta=self._momenta,
            step=self._kept_step,
            optimizer=self.optimizer.to_dict(),
            seed=self.seed,
            loss=self.loss,
            target=self.target,
            output_size=self.output_size,
            preprocessing=self.source.preprocessing.to_dict(),
            plan=self.plan.arithmetic.to_dict(),
            config=self.config,
            data={"train": self.source.fingerprint, "batch": self.batch},
            libraries=self._libraries,
            curve=self.curve,
        )

    def _rule(self, step: int) -> UpdateRule:
        sgd = self.optimizer
        rule = UpdateRule(sgd.eta_at(step), sgd.momentum, sgd.weight_decay, 1.0 / self._voxels)
        if rule != self._last_rule:
            self._last_rule = rule
        return self._last_rule  # one for all updates: Dask keeps the last thousand messages

    def _rewind(self) -> None:
        """Back to the last snapshot: later updates were not saved and will be made again."""
        self.step = self._kept_step
        self.curve.truncate(self.step)

    def _failure(self, reason: str) -> TrainingError:
        kept = (
            f"the last good checkpoint is {self.checkpoint}"
            if self.checkpoint
            else "there is no checkpoint yet"
        )
        return TrainingError(f"training stopped after update {self.step}: {reason}; {kept}")
