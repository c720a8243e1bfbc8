"""The stop button of a notebook, pressed in a real kernel while it trains."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from kernel import Kernel, kernel
from small_network import NETWORK, OUTPUT
from striped_volume import write_volume

from znn_dask.cluster.local import local_cluster
from znn_dask.network import write_znn
from znn_dask.training.trainer import Trainer

BEYOND = 40  # updates after the stop

SETUP = """
import hashlib
import znn_dask as znn
client = znn.local_cluster({threads}, workers={workers}, processes={processes}, dashboard=False)
trainer = znn.Trainer(
    znn.read_znn("small.znn"), "v.zarr", {output}, folder="checkpoints",
    checkpoint_every=0, batch={workers}, seed=5, client=client,
)
"""
DIGEST = """
digest = hashlib.sha256()
for name, values in sorted(trainer.parameters.items()):
    digest.update(name.encode() + values.tobytes())
print(trainer.step, digest.hexdigest())
"""


def digest(parameters: dict[str, Any]) -> str:
    found = hashlib.sha256()
    for name, values in sorted(parameters.items()):
        found.update(name.encode() + values.tobytes())
    return found.hexdigest()


def interrupted(notebook: Kernel) -> int:
    """Begin a long `fit`, press stop after some updates, and return the step it stands at."""

    def enough(text: str) -> bool:
        found = re.search(r"update ([\d,]+) of 1,000,000: loss", text)
        return found is not None and int(found[1].replace(",", "")) >= 5

    shown = notebook.run("trainer.fit(1_000_000)", watch=enough)
    said = [text for text in shown if "with a checkpoint to go on from" in text]
    assert said, shown[-3:]
    found = re.search(r"stopped after update ([\d,]+) of 1,000,000, with a checkpoint", said[-1])
    assert found is not None
    return int(found[1].replace(",", ""))


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize(("workers", "processes"), [(1, False), (2, True)])
def test_stop_and_go_on_with_the_same_bits(tmp_path: Path, workers: int, processes: bool) -> None:
    volume = write_volume(tmp_path / "v.zarr")
    write_znn(NETWORK, tmp_path / "small.znn")
    with kernel(tmp_path) as notebook:
        settings = {"workers": workers, "threads": 2 // workers, "processes": processes}
        notebook.run(SETUP.format(output=OUTPUT, **settings))
        stopped = interrupted(notebook)
        step, _ = notebook.run(DIGEST)[-1].split()
        assert int(step) == stopped
        notebook.run(f"trainer.fit({stopped + BEYOND})")
        step, found = notebook.run(DIGEST)[-1].split()
        assert int(step) == stopped + BEYOND
        notebook.run("client.close()")

    with local_cluster(2, dashboard=False) as client:
        trainer = Trainer(
            *(NETWORK, volume, OUTPUT),
            folder=tmp_path / "other",
            checkpoint_every=0,
            batch=workers,
            seed=5,
            client=client,
            progress=False,
        )
        trainer.fit(stopped + BEYOND)
    assert digest(trainer.parameters) == found
