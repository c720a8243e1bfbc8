"""Watchers of a training: what they are told, and that they may end it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from small_network import NETWORK, OUTPUT
from striped_volume import write_volume

from znn_dask.cluster.local import local_cluster
from znn_dask.training.checkpoint import list_checkpoints
from znn_dask.training.trainer import Trainer
from znn_dask.training.watching import Run, Watcher

Make = Callable[..., Trainer]


class Diary(Watcher):
    """Writes down all that it is told."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []

    def begin(self, run: Run) -> None:
        self.entries.append(("begin", run.first, run.last, run.voxels))

    def update(self, step: int, loss: float) -> None:
        self.entries.append(("update", step))

    def validated(self, step: int, loss: float) -> None:
        self.entries.append(("validated", step))

    def saving(self, step: int) -> None:
        self.entries.append(("saving", step))

    def saved(self, step: int, checkpoint: str | Path) -> None:
        self.entries.append(("saved", step))

    def end(self) -> None:
        self.entries.append(("end",))


class Barred(Watcher):
    """A driver that another one has replaced."""

    def saving(self, step: int) -> None:
        raise PermissionError("another driver writes now")


class Impatient(Watcher):
    """Stops the training after its first updates."""

    def begin(self, run: Run) -> None:
        self.trainer = run.trainer

    def update(self, step: int, loss: float) -> None:
        self.trainer.stop()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(2, dashboard=False) as client:
        yield client


@pytest.fixture
def make(client: Client, tmp_path: Path) -> Make:
    volume = write_volume(tmp_path / "v.zarr")

    def make(*watchers: Watcher, **settings: Any) -> Trainer:
        settings = {"checkpoint_every": 4, "validate_every": 0} | settings
        return Trainer(
            *(NETWORK, volume, OUTPUT),
            **settings,
            folder=tmp_path / "checkpoints",
            client=client,
            progress=False,
            watchers=watchers,
        )

    return make


def test_all_is_told_in_order(make: Make) -> None:
    diary = Diary()
    trainer = make(diary)
    trainer.fit(8)
    voxels = OUTPUT[0] * OUTPUT[1] * OUTPUT[2]
    assert diary.entries[0] == ("begin", 0, 8, voxels)
    assert diary.entries[-1] == ("end",)
    rest = diary.entries[1:-1]
    assert [e for e in rest if e[0] != "update"] == [
        ("saving", 4),
        ("saved", 4),
        ("saving", 8),
        ("saved", 8),
    ]
    assert rest.index(("update", 4)) < rest.index(("saving", 4))
    assert ("update", 8) in rest


def test_a_watcher_may_forbid_a_checkpoint(make: Make, tmp_path: Path) -> None:
    diary = Diary()
    trainer = make(diary, Barred())
    with pytest.raises(PermissionError, match="another driver"):
        trainer.fit(8)
    assert list_checkpoints(tmp_path / "checkpoints") == []
    assert diary.entries[-1] == ("end",)


def test_stop_leaves_a_checkpoint_and_fit_goes_on(make: Make) -> None:
    trainer = make(Impatient(), checkpoint_every=0)
    trainer.fit(1_000_000)
    stopped = trainer.step
    assert 0 < stopped < 1_000_000
    assert trainer.checkpoint is not None
    trainer.stop()  # nothing runs: nothing happens
    other = make(resume=trainer.checkpoint, checkpoint_every=0)
    other.fit(stopped + 3)
    assert other.step == stopped + 3
