"""From blocks to objects: every block gives a piece of each object, every object is made of its
pieces. Pieces lie in files, so that neither the volume nor all objects need fit into memory, and
what an interrupted run has finished is not done again."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from znn_dask.data.metadata import VoxelSize
from znn_dask.neurons.errors import NeuronError
from znn_dask.neurons.files import PARTIAL, local_path, write_json, write_whole
from znn_dask.neurons.objects import Objects, Triple, count
from znn_dask.neurons.running import Runner

T = TypeVar("T")

Arrays = Mapping[str, np.ndarray]

RECORD = "record.json"
"""What a folder was made of, and how."""
SIZES = "objects.json"
"""Voxels of each finished object."""


class Maker(Protocol):
    """What is made of objects: a frozen dataclass of its settings. Travels to workers."""

    def pieces(self, objects: Objects, block: Triple, ids: Sequence[int]) -> Mapping[int, Arrays]:
        """What a block holds of each of `ids`; nothing of those that are not there."""

    def make(self, objects: Objects, number: int, pieces: Sequence[Arrays], folder: Path) -> None:
        """Make object `number` of its pieces, in the order of blocks, and write its files."""

    def file(self, number: int) -> str:
        """The file of an object that is written last, and says that the object is finished."""


@dataclass(frozen=True)
class Choice:
    """Which objects: those named, the `largest` so many, and none below `minimum_size` voxels."""

    ids: Sequence[int] | None = None
    largest: int | None = None
    minimum_size: int = 1

    def __post_init__(self) -> None:
        if self.largest is not None and self.largest < 1:
            raise NeuronError(f"the largest {self.largest} objects are none; ask for 1 or more")
        if self.minimum_size < 1:
            raise NeuronError(
                f"minimum size {self.minimum_size} is no number of voxels; ask for 1 or more"
            )


@dataclass(frozen=True)
class Collection:
    """A folder of files made of objects, one (or a few) for each object."""

    folder: Path
    objects: Objects
    maker: Maker

    def begin(self, kind: str, *, overwrite: bool = False) -> None:
        """Make the folder, or find it as this collection would have begun it.

        Raises NeuronError for a folder of something else, or of other objects or settings.
        """
        record = {"made": "znn_dask", "kind": kind, **self._settings()}
        place = self.folder / RECORD
        former = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
        if overwrite and former.get("made") == record["made"]:
            shutil.rmtree(self.folder)
            former = {}
        if former:
            for key in [*record, *former]:
                if former.get(key) != record.get(key):
                    has = f"{key} {former.get(key)}, asked for is {record.get(key)}"
                    if key == "state":
                        has = f"{kind} of objects that were at {self.objects.source} before"
                    raise NeuronError(
                        f"{self.folder} has {has}; choose another folder or overwrite"
                    )
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise NeuronError(f"{self.folder} holds other files; choose a new folder")
        else:
            write_json(place, record)

    def _settings(self) -> dict[str, Any]:
        described = {
            "source": self.objects.source,
            "state": self.objects.state(),
            "voxel_size": self.objects.voxel_size,
            "origin": self.objects.origin,
            **asdict(self.maker),  # type: ignore[call-overload]
        }
        settings: dict[str, Any] = json.loads(json.dumps(described))
        return settings

    def collect(self, choice: Choice, runner: Runner) -> None:
        """Make the objects that are not finished, block by block and then object by object."""
        if runner.elsewhere and isinstance(self.objects.array, np.ndarray):
            raise NeuronError("an array in memory does not reach workers; give a path to objects")
        counted = count(self.objects, runner)
        ids = counted.choose(choice.ids, choice.largest, choice.minimum_size)
        missing = [i for i in ids if not self._finished(i)]
        text = json.dumps([self._settings(), self.objects.block, ids])
        store = self.folder / f".pieces-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        blocks: dict[Triple, list[int]] = {}
        for number in missing:
            for block in counted.places[number]:
                blocks.setdefault(block, []).append(number)
        todo = [_Cut(b, tuple(n)) for b, n in blocks.items() if not _piece_file(store, b).exists()]
        store.mkdir(exist_ok=True)
        runner.map("cutting", partial(_cut, self, store), todo)
        makings = [_Making(number, tuple(counted.places[number])) for number in missing]
        runner.map("making", partial(_make, self, store), makings)
        shutil.rmtree(store)
        for leftover in self.folder.glob(PARTIAL):  # of a run that was killed
            leftover.unlink(missing_ok=True)
        place = self.folder / SIZES
        sizes = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
        write_json(place, sizes | {str(i): counted.voxels[i] for i in ids})

    def _finished(self, number: int) -> bool:
        return (self.folder / self.maker.file(number)).exists()


class Collected(Mapping[int, T]):
    """What a collection has made, read from its folder by id; the largest object first.

    record: what it was made of, and how.
    """

    kind: str
    command: str

    def __init__(self, path: str | Path) -> None:
        """Raises NeuronError where the folder holds none."""
        self.path = local_path(path)
        try:
            self.record = json.loads((self.path / RECORD).read_text(encoding="utf-8"))
            sizes = json.loads((self.path / SIZES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.record, sizes = {}, {}
        if self.record.get("kind") != self.kind:
            raise NeuronError(
                f"{path} holds no {self.kind}; make them with "
                f"`znn-dask {self.command} objects.zarr {path}`"
            )
        self._voxels = {int(number): int(size) for number, size in sizes.items()}

    @property
    def voxel_size(self) -> VoxelSize:
        """(z, y, x) nm, of the objects."""
        z, y, x = self.record["voxel_size"]
        return z, y, x

    def voxels(self, number: int) -> int:
        """Voxels of an object; raises KeyError for one that was not made."""
        return self._voxels[number]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._voxels, key=lambda i: (-self._voxels[i], i)))

    def __len__(self) -> int:
        return len(self._voxels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}): {len(self)} objects"


def _piece_file(store: Path, block: Triple) -> Path:
    return store / "{}-{}-{}.npz".format(*block)


@dataclass(frozen=True)
class _Cut:
    """A block, and the objects of which pieces are wanted."""

    block: Triple
    ids: Sequence[int]

    def __str__(self) -> str:
        return f"block {self.block}"


@dataclass(frozen=True)
class _Making:
    """An object, and the blocks that hold pieces of it."""

    number: int
    blocks: Sequence[Triple]

    def __str__(self) -> str:
        return f"object {self.number}"


def _cut(collection: Collection, store: Path, cut: _Cut) -> None:
    """Write what a block holds of some objects."""
    found = collection.maker.pieces(collection.objects, cut.block, cut.ids)
    arrays = {f"{i}/{name}": a for i, piece in found.items() for name, a in piece.items()}
    write_whole(
        _piece_file(store, cut.block), lambda path: np.savez(path, allow_pickle=False, **arrays)
    )


def _make(collection: Collection, store: Path, making: _Making) -> None:
    """Make an object of its pieces and write it."""
    pieces = []
    prefix = f"{making.number}/"
    for block in making.blocks:
        with np.load(_piece_file(store, block)) as stored:
            names = [name for name in stored.files if name.startswith(prefix)]
            if names:
                pieces.append({name.removeprefix(prefix): stored[name] for name in names})
    collection.maker.make(collection.objects, making.number, pieces, collection.folder)
