"""The stages of the demo, one after the other."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cc3d
import numpy as np
from rich.console import Console

from znn_dask.cluster.local import local_cluster
from znn_dask.dashboard.link import page_link
from znn_dask.data import open_volume
from znn_dask.demo import setup
from znn_dask.demo.page import write_page
from znn_dask.demo.results import Results
from znn_dask.inference.predict import predict
from znn_dask.segmentation import (
    SegmentationParameters,
    best_parameters,
    evaluate,
    raw_watershed,
    segment,
)
from znn_dask.segmentation.maps import Region, open_map, read_probability
from znn_dask.segmentation.scores import Scores
from znn_dask.taskgraph.engine import process_engine
from znn_dask.training.config import load_config
from znn_dask.training.from_config import finished, save_curve, trainer_from_config

_UPDATES_PER_SECOND = 20.0  # on two cores, of the network for isotropic voxels
_OTHER_SECONDS = 40.0  # what all but training takes there
_FEWEST_UPDATES = 20
_DUST = 60  # voxels; smaller pieces of a cell at the border of a box are not judged
_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
_SEED_THRESHOLDS = (0.3, 0.5, 0.7)
_RAW_DEPTHS = (0.06, 0.1, 0.15, 0.2)


def run_demo(
    out: str | os.PathLike[str] = "znn-demo",
    *,
    data: str | None = None,
    seconds: float = 120.0,
    shape: tuple[int, int, int] = setup.SHAPE,
    updates: int | None = None,
    threads: int | None = None,
) -> Path:
    """Train, predict, segment, score and report; returns the path of the report page.

    out: folder for everything. data: a volume with image and labels, synthetic when not given.
    seconds: about how long it takes on two cores, which decides the number of `updates` where these
    are not given. shape: (z, y, x) of the synthetic volume. threads: all cores when not given.

    Raises ValueError in one line for a folder or volume that cannot be used; KeyboardInterrupt
    after a clean stop.
    """
    folder = Path(out).absolute()
    if updates is None:
        updates = max(_FEWEST_UPDATES, round((seconds - _OTHER_SECONDS) * _UPDATES_PER_SECOND))
    volume = str(folder / "volume.zarr") if data is None else _absolute(data)
    if data is not None:
        setup.check_volume(volume)
    setup.prepare_folder(folder)
    stages = Stages(Console(stderr=True))
    if data is None:
        with stages.stage("making synthetic electron microscopy with exact labels"):
            setup.make_volume(Path(volume), shape)
    found, voxel_size = setup.check_volume(volume)
    parts = setup.split(found)
    path = setup.write_config(folder, volume, parts, voxel_size, updates)
    config = load_config(path)

    client = local_cluster(threads)
    try:
        trainer = trainer_from_config(config, client)
        stages.say(f"dashboard: {page_link(client)}")
        with stages.stage(f"training {updates:,} updates"):
            trainer.fit(updates)
            timeline = tuple(process_engine().timeline)
            save_curve(trainer, config.training.folder)
        if not finished(trainer, config) or trainer.checkpoint is None:
            raise KeyboardInterrupt
    finally:
        client.close()

    flat = setup.in_plane(voxel_size)
    image, labels, map_ = f"{volume}/image", f"{volume}/labels", folder / "map.zarr"
    with stages.stage("predicting unseen parts of the volume"):
        predict(
            trainer.checkpoint,
            image,
            map_,
            region=parts.predicted,
            border="mirror",
            progress=False,
        )
    with stages.stage("choosing thresholds beside the training part"):
        search = best_parameters(
            map_,
            labels,
            region=parts.tuning,
            dust=_DUST,
            start=SegmentationParameters(in_plane=flat),
            thresholds=_THRESHOLDS,
            seed_thresholds=_SEED_THRESHOLDS,
        )
        # In a part this small a single merger decides the Rand error; information is steadier.
        best, _ = min(search.tried, key=lambda tried: tried[1].vi)
    with stages.stage("segmenting the held-out part"):
        segment(
            map_,
            folder / "objects.zarr",
            threshold=best.threshold,
            seed_threshold=best.seed_threshold,
            in_plane=flat,
            region=parts.test_in_map,
            progress=False,
        )
        scores = _score(folder / "objects.zarr", labels, parts.test, flat)
    with stages.stage("the same without learning: a watershed of the image"):
        raw, raw_scores = _baseline(volume, parts, voxel_size)
    opened = open_volume(volume)
    with stages.stage("drawing the report"):
        results = Results(
            folder=folder,
            volume=volume,
            synthetic=data is None,
            parts=parts,
            voxel_size=voxel_size,
            image=np.asarray(opened["image"][parts.test]),
            truth=_pieces(np.asarray(opened["labels"][parts.test]), flat),
            boundary=read_probability(open_map(map_), "affinity", parts.test_in_map).boundary,
            objects=np.asarray(open_map(folder / "objects.zarr").array[:]),
            raw=raw,
            trainer=trainer,
            timeline=timeline,
            parameters=best,
            scores=scores,
            raw_scores=raw_scores,
            seconds=dict(stages.seconds),
        )
        report = write_page(results)
    stages.say(
        f"held-out part: adapted Rand error {scores.adapted_rand_error:.3f} "
        f"(watershed of the image: {raw_scores.adapted_rand_error:.3f}), "
        f"variation of information {scores.vi:.2f} bits ({raw_scores.vi:.2f})"
    )
    return report


class Stages:
    """Says what is going on and remembers how long it took."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self._console, self._clock = console, clock

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage, and its seconds at the end."""
        self.say(f"{name} ...")
        begin = self._clock()
        yield
        self.seconds[name] = self._clock() - begin
        self.say(f"  {self.seconds[name]:.1f} s")


def _baseline(
    volume: str, parts: setup.Split, voxel_size: tuple[float, float, float]
) -> tuple[np.ndarray, Scores]:
    """The best watershed of the raw image: its depth is chosen where the network's settings are."""
    opened, labels, flat = open_volume(volume), f"{volume}/labels", setup.in_plane(voxel_size)

    def flood(region: Region, depth: float) -> np.ndarray:
        image = np.asarray(opened["image"][region])
        return raw_watershed(image, depth=depth, voxel_size=voxel_size, in_plane=flat)

    def information(depth: float) -> float:
        return _score(flood(parts.tuning, depth), labels, parts.tuning, flat).vi

    raw = flood(parts.test, min(_RAW_DEPTHS, key=information))
    return raw, _score(raw, labels, parts.test, flat)


def _score(objects: Path | np.ndarray, labels: str, region: Region, flat: bool) -> Scores:
    # A cell may fall into pieces at the border of a box: they are judged one by one.
    return evaluate(
        *(objects, labels), region=region, relabel_components=not flat, dust=_DUST, in_plane=flat
    )


def _pieces(labels: np.ndarray, flat: bool) -> np.ndarray:
    """Connected components of labels (z, y, x), slice by slice where they are judged so."""
    if not flat:
        return labels
    pieces = np.zeros(labels.shape, np.uint32)
    for z, plane in enumerate(labels):
        found = cc3d.connected_components(plane, connectivity=4, out_dtype=np.uint32)
        pieces[z] = np.where(found, found + pieces.max(), 0)
    return pieces


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).absolute())
