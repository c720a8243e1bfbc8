"""Pictures and the HTML report."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from znn_dask.report import (
    Fact,
    Picture,
    Section,
    Table,
    save,
    slice_panels,
    write_report,
)
from znn_dask.report.colours import colour_slots, matched_slots, outlines, overlay

PNG = b"\x89PNG\r\n\x1a\n"


def volumes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, 9, (2, 3, 4)), np.ones((4, 5, 6), int))
    return {
        "image": rng.integers(0, 255, ids.shape).astype(np.uint8),
        "truth": ids.astype(np.uint16),
        "probability": rng.random(ids.shape).astype(np.float32),
        "objects": (ids * 2).astype(np.uint32),
    }


def test_panels_of_three_views_and_of_one_slice(tmp_path: Path) -> None:
    figure = slice_panels(**volumes(), voxel_size=(40, 4, 4), title="A volume")
    assert len(figure.axes) == 12
    assert save(figure, tmp_path / "panels.png", dpi=40).read_bytes().startswith(PNG)
    flat = {name: values[:1] for name, values in volumes().items()}
    assert len(slice_panels(**flat).axes) == 4
    assert len(slice_panels(flat["image"], objects=flat["objects"]).axes) == 2
    with pytest.raises(ValueError, match=r"\(7, 15, 24\).*\(8, 15, 24\)"):
        slice_panels(volumes()["image"], truth=volumes()["truth"][1:])


def test_colours_follow_the_truth() -> None:
    truth = np.repeat([[1, 2]], 6, axis=1)
    objects = np.array([[7, 7, 7, 7, 7, 8, 9, 9, 9, 9, 9, 9]])
    slots = matched_slots(objects, truth)
    first, second = colour_slots(np.array([1, 2]))
    assert (slots[7], slots[9]) == (first, second)
    assert slots[8] not in (first, second)


def test_overlay_leaves_background_grey() -> None:
    ids = np.array([[0, 5, 5], [0, 5, 5]])
    grey = np.full((2, 3, 3), 0.5, np.float32)
    drawn = overlay(grey, ids)
    assert np.array_equal(drawn[:, 0], grey[:, 0])
    assert not np.allclose(drawn[:, 2], grey[:, 2])
    assert outlines(ids).tolist() == [[True, False, False]] * 2


class Outline(HTMLParser):
    """Collects what a page refers to, and checks that its tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report_is_one_file_without_outside_resources(tmp_path: Path) -> None:
    save(Figure(figsize=(1, 1)), tmp_path / "one.png")
    sections = [
        Section(
            "Objects & <scores>",
            "First.\n\nSecond.",
            pictures=[Picture(tmp_path / "one.png", 'A "quoted" caption'), Picture(PNG)],
            tables=[Table(["method", "error"], [["raw", "0.4"]], "Lower is better.")],
            commands=["znn-dask segment a.zarr b.zarr"],
        ),
        Section("Curve", pictures=[Picture(Figure(figsize=(1, 1)))]),
    ]
    facts = [Fact("Adapted Rand error", "0.05", "raw watershed 0.4")]
    path = write_report(tmp_path / "out" / "report.html", "A run", sections, facts)
    page = path.read_text(encoding="utf-8")
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in outline.links)
    assert not re.search(r"https?://|@import|url\(|<script", page)
    assert "Objects &amp; &lt;scores&gt;" in page
    assert page.count("<p>") == 2
    assert "prefers-color-scheme:dark" in page
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    write_report(path, "Again", [], {"speed": "3 ms"})
    assert "3 ms" in path.read_text(encoding="utf-8")
