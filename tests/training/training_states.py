"""Checkpoint states for tests."""

import numpy as np

from znn_dask.training.curve import LearningCurve
from znn_dask.training.optimizer import SGD
from znn_dask.training.state import CheckpointState


def make_state(
    step: int = 100, dtype: str = "float32", validation_loss: float | None = None, seed: int = 0
) -> CheckpointState:
    """A small state whose numbers follow from ``seed``."""
    rng = np.random.default_rng(seed)
    shapes = {"conv1.filters": (2, 3, 1, 4, 5), "n1.biases": (3,), "out/put.biases": (2,)}
    curve = LearningCurve()
    for at in range(1, step + 1, max(1, step // 7)):
        curve.train.append(at, float(rng.random()), 0.25, at * 0.1)
    if validation_loss is not None:
        curve.validation.append(step, validation_loss, 0.5, step * 0.1)
    return CheckpointState(
        network="nodes input\ntype input\nsize 2\n",
        parameters={
            name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()
        },
        momenta={name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()},
        step=step,
        optimizer=SGD(0.1 + 0.2, momentum=0.9).to_dict(),
        seed=2**63,
        loss="binomial",
        target="affinity",
        output_size=(4, 5, 6),
        preprocessing={"kind": "standard3D", "mean": 0.1 + 0.2, "std": 1 / 3},
        plan={"layers": [{"edge": "conv1", "tile": [8, 8, 8]}], "version": 1},
        config={"training": {"updates": 10}},
        data={"train": ["sha256:00"]},
        libraries={"numpy": "2.4.6"},
        curve=curve,
    )
