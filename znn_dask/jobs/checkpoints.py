"""The checkpoints of a job, which lie in the folders of its attempts.

An attempt begins at a checkpoint of an earlier one, which its claim names. What that earlier one
writes later (its worker was only taken for dead) does not belong to the job.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from znn_dask.jobs.records import Claim, checkpoints_name
from znn_dask.training.checkpoint import CheckpointInfo, list_checkpoints, remove_checkpoint


@dataclass(frozen=True)
class Kept:
    """A checkpoint of a job, and the attempt that wrote it."""

    attempt: int
    info: CheckpointInfo


def job_checkpoints(job: str, claims: Sequence[Claim]) -> list[Kept]:
    """The checkpoints that lead to the newest one, the oldest first.

    job: location of the job's folder.
    """
    line: list[Kept] = []
    of = {claim.attempt: claim for claim in claims}
    attempt, limit = (claims[-1].attempt if claims else 0), math.inf
    while attempt in of:
        infos = list_checkpoints(f"{job}/{checkpoints_name(attempt)}")
        line = [*(Kept(attempt, info) for info in infos if info.step <= limit), *line]
        origin, limit = of[attempt].origin, of[attempt].step
        attempt = origin[0] if origin is not None else 0
    return line


def origin_of(line: Sequence[Kept]) -> tuple[int, str] | None:
    """Where the next attempt goes on."""
    return (line[-1].attempt, line[-1].info.name) if line else None


def best_of(line: Sequence[Kept]) -> Kept | None:
    """The checkpoint of least validation loss, the first one of several."""
    scored = [(k.info.validation_loss, i) for i, k in enumerate(line)]
    found = [(loss, i) for loss, i in scored if loss is not None]
    return line[min(found)[1]] if found else None


def prune(line: Sequence[Kept], keep: int) -> None:
    """Remove all but the last `keep` and the best one."""
    champion = best_of(line)
    for kept in line[:-keep]:
        if kept is not champion:
            remove_checkpoint(kept.info.path)
