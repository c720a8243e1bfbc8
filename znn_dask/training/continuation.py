"""Whether a training may go on from a checkpoint, and with which arithmetic."""

import warnings

from znn_dask.cluster.checks import ClusterWarning
from znn_dask.taskgraph.arithmetic import Arithmetic
from znn_dask.training.state import CheckpointState


def check_continuation(saved: CheckpointState, new: CheckpointState) -> None:
    """Refuse to go on from `saved` with settings that would make another training of it.

    Warns where the data changed. Libraries are those of the workers: `Trainer.fit` looks at them.

    Raises
    ------
    ValueError
        If network, output size, loss, seed or batch differ; the message names both values.
    """
    pairs = {
        "network": (saved.network, new.network),
        "output size": (tuple(saved.output_size), tuple(new.output_size)),
        "loss": (saved.loss, new.loss),
        "seed": (saved.seed, new.seed),
        "batch": (saved.data.get("batch", 1), new.data.get("batch", 1)),
    }
    for what, (there, here) in pairs.items():
        if there != here:
            shown = "differs" if what == "network" else f"is {here}, the checkpoint has {there}"
            raise ValueError(f"cannot resume: the {what} {shown}; start a new training instead")
    if saved.data.get("train") != new.data.get("train"):
        changed = "the training data or its sampling changed since the checkpoint"
        warnings.warn(changed, ClusterWarning, stacklevel=3)


def kept_arithmetic(saved: CheckpointState, asked: Arithmetic | None, dtype: str) -> Arithmetic:
    """The arithmetic of a checkpoint, which decides its bits; warns where another is asked for.

    Raises
    ------
    ValueError
        If it is not of `dtype`.
    """
    kept = Arithmetic.from_dict(saved.plan)
    if kept.dtype != dtype:
        raise ValueError(
            f"cannot resume: dtype is {dtype}, the checkpoint has {kept.dtype}; give "
            f"dtype={kept.dtype} or start a new training"
        )
    if asked is not None and asked != kept:
        warnings.warn(
            f"going on with the checkpoint's arithmetic {kept.digest}; the plan's, {asked.digest}, "
            "is for a new training",
            ClusterWarning,
            stacklevel=3,
        )
    return kept
