"""What objects show in a notebook, and that looking at them never fails and never takes long."""

import time
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_network import NETWORK, OUTPUT

import znn_dask as znn
from znn_dask.data import create_image
from znn_dask.data.pyramid import build_pyramid
from znn_dask.display.slices import EDGE, coarse, items, plane
from znn_dask.network import Network
from znn_dask.segmentation import evaluate
from znn_dask.taskgraph import ForwardPass
from znn_dask.training.curve import LearningCurve
from znn_dask.training.initial import initial_parameters
from znn_dask.training.state import CheckpointState


class Pages(HTMLParser):
    """Fails where tags are not closed in order; collects the text."""

    VOID = frozenset({"img", "br", "meta", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def text(thing: Any) -> str:
    """The text of an object's display, which must be sound HTML."""
    html = thing._repr_html_()
    assert html is not None
    pages = Pages()
    pages.feed(html)
    pages.close()
    assert pages.open == []
    return " ".join(pages.words)


def make_curve(updates: int) -> LearningCurve:
    curve = LearningCurve()
    for step in range(1, updates + 1):
        curve.train.append(step, 1 / step, 0.5 / step, step / 10)
    curve.validation.append(max(1, updates // 2), 0.25, 0.125, 1.0)
    return curve


def checkpoint(**changed: Any) -> CheckpointState:
    parameters = initial_parameters(NETWORK, 0, "float32")
    settings: dict[str, Any] = {
        "network": znn.network.format_znn(NETWORK),
        "parameters": parameters,
        "momenta": {name: np.zeros_like(p) for name, p in parameters.items()},
        "step": 20,
        "optimizer": {"kind": "sgd", "eta": 0.125},
        "seed": 3,
        "loss": "softmax",
        "target": "boundary",
        "output_size": OUTPUT,
        "curve": make_curve(20),
    }
    return CheckpointState(**settings | changed)


def test_network() -> None:
    shown = text(NETWORK)
    assert "field of view" in shown
    assert "c2" in shown
    assert "rectify_linear" in shown or "tanh" in shown


@pytest.mark.parametrize("training", [True, False])
def test_plan(training: bool) -> None:
    made = znn.plan(NETWORK, OUTPUT, threads=2, training=training, slowness=1.0)
    shown = text(made)
    for word in ("c1", "direct", "estimated", "predicted memory", "Simulated schedule", "thread 1"):
        assert word in shown
    assert ("Plan of training" in shown) == training
    assert repr(made) == made.explain()


def test_plans_of_large_networks_show_at_once() -> None:
    made = znn.plan(znn.zoo.vd2d3d(), (2, 32, 32), threads=8, slowness=1.0)
    begin = time.perf_counter()
    assert "conv4c" in text(made)
    assert time.perf_counter() - begin < 10  # a second, where nothing else runs


def test_forward_pass() -> None:
    forward = ForwardPass(NETWORK, initial_parameters(NETWORK, 0, "float32"), OUTPUT)
    assert "2,6,6, 2 maps" in text(forward)
    assert repr(forward).startswith("ForwardPass: input ")


def test_checkpoint() -> None:
    shown = text(checkpoint())
    for word in (
        "Checkpoint after 20 updates",
        "eta 0.125",
        "softmax",
        "c2.filters",
        "misclassified",
    ):
        assert word in shown
    assert "best validation 0.25 at 10" in repr(checkpoint())
    assert "no updates yet" in text(checkpoint(curve=LearningCurve()))


def test_scores() -> None:
    labels = np.repeat(np.arange(1, 5, dtype=np.uint32), 64).reshape(4, 8, 8)
    scores = evaluate(labels, labels)
    shown = text(scores)
    for word in ("adapted Rand error", "0.0000", "mergers lower it", "↓ 0", "4 labels"):
        assert word in shown
    assert repr(scores) == str(scores)


# --- volumes ---


@pytest.fixture
def volume(tmp_path: Path) -> znn.Volume:
    rng = np.random.default_rng(0)
    shape = (6, 300, 400)
    for name, values in (
        ("image", rng.integers(0, 255, shape, np.uint8)),
        ("labels", rng.integers(0, 9, shape).astype(np.uint32)),
        ("mask", np.ones(shape, np.uint8)),
        ("map", rng.random((3, *shape)).astype(np.float32)),
    ):
        create_image(tmp_path / "v.zarr", name, values.shape, values.dtype, voxel_size=(40, 4, 4))[
            ...
        ] = values
    return znn.open_volume(tmp_path / "v.zarr")


def test_volume(volume: znn.Volume) -> None:
    shown = text(volume)
    for word in ("labels over image", "mask over image", "40 × 4 × 4 nm", "6 × 300 × 400", "c, z"):
        assert word in shown
    assert "labels  6x300x400 uint32, voxels of 40 x 4 x 4 nm" in repr(volume)
    bundle = volume._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}  # no kernel, so no slider


def test_slices_come_from_the_lowest_level_that_fills_a_picture(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (8, 700, 1100), np.uint8)
    place = tmp_path / "v.zarr"
    create_image(place, "image", values.shape, values.dtype, voxel_size=(40, 4, 4))[...] = values
    assert coarse(items(znn.open_volume(place))["image"], 0) == 0
    build_pyramid(place / "image")
    image = items(znn.open_volume(place))["image"]
    level = coarse(image, 0)
    assert level > 0
    assert image.levels[level].shape[2] >= EDGE
    found = plane(image, 0, 4, level)
    assert max(found.shape) <= EDGE
    np.testing.assert_allclose(found.mean(), values.mean(), rtol=0.02)


def test_a_slider_moves_through_a_volume(volume: znn.Volume) -> None:
    pytest.importorskip("ipywidgets")
    from znn_dask.display.slider import Slider

    slider = Slider(volume.path, items(volume))
    assert slider.position.max == 5
    seen = {slider.picture.value}
    slider.position.value = 0
    seen.add(slider.picture.value)
    slider.over.value = "nothing"
    seen.add(slider.picture.value)
    slider.axis.value = "x"
    assert slider.position.max == 399
    seen.add(slider.picture.value)
    assert len(seen) == 4
    assert float(slider.picture.width) > 8
    slider.image.value = slider.over.value = "nothing"  # the last picture stays


# --- what cannot be shown ---


@dataclass
class Case:
    """Something that is broken, and words of what a prompt says of it."""

    thing: Any
    words: str


def broken(tmp_path: Path) -> list[Case]:
    gone = tmp_path / "gone.zarr"
    return [
        Case(Network(), "unfinished"),
        Case(Network().input(), "unfinished"),
        Case(znn.Volume(str(gone)), "cannot be read"),
        Case(checkpoint(network="nonsense", output_size=(1, 2, 3)), "Checkpoint after 20"),
    ]


def test_nothing_raises(tmp_path: Path) -> None:
    for case in broken(tmp_path):
        assert case.words in repr(case.thing)
        html = case.thing._repr_html_()
        assert html is None or "znn" in html


def test_a_damaged_volume_is_shown_as_text(volume: znn.Volume) -> None:
    for chunk in Path(volume.path, "image", "0", "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    assert "image" in repr(volume)
    assert volume._repr_html_() is None
    assert set(volume._repr_mimebundle_()) == {"text/plain"}
