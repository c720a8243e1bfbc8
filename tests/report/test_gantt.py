"""Gantt charts: what they show, and that all formats draw it."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from znn_dask.network import zoo
from znn_dask.report.gantt import COLOURS, Chart, chart, short_name
from znn_dask.report.gantt_svg import html, svg
from znn_dask.report.schedule import plan_gantt, save_gantt, span_gantt
from znn_dask.taskgraph.distribution import distribute
from znn_dask.taskgraph.engine import Engine
from znn_dask.taskgraph.plan import plan
from znn_dask.taskgraph.rule import Job
from znn_dask.taskgraph.timeline import Span

SPANS = (
    Span(0, 10.0, 10.4, ("forward", "n1", 0), 1, False, 1),
    Span(0, 10.4, 10.5, ("forward", "n1", 1), 1, False, 1),
    Span(0, 10.5, 11.0, ("update", "e1", 0), 2, False, 0),
    Span(1, 10.0, 10.5, ("kernel_spectrum", "e2", 3), 2, True, 0),
)


def em3d(threads: int) -> Chart:
    made = plan(zoo.em3d(), (16, 16, 16), threads=threads, slowness=1.0)
    return plan_gantt(distribute(made), title="em3d <16>")


def classes(text: str) -> Counter[str]:
    return Counter(name for found in re.findall(r'class="([^"]*)"', text) for name in found.split())


def test_bars_names_and_shares():
    drawn = span_gantt(SPANS, title="One update")
    assert drawn.length == pytest.approx(1.0)
    assert drawn.busy == pytest.approx((1.0, 0.5))
    assert [bar.kind for bar in drawn.bars] == ["type-1", "type-1", "type-2", "forced"]
    assert [bar.what for bar in drawn.names] == ["forward n1", "update e1", "FFT e2"]
    assert drawn.names[0].tasks == 2
    assert drawn.steps == ((1, 0.0),)
    assert drawn.kinds == ["type-1", "type-2", "forced"]


def test_a_window_cuts_bars():
    drawn = chart(SPANS, window=(10.2, 10.6))
    assert drawn.length == pytest.approx(0.4)
    assert drawn.busy == pytest.approx((1.0, 0.75))
    assert all(0 <= bar.start < bar.end <= drawn.length + 1e-9 for bar in drawn.bars)


def test_tiny_neighbours_are_one_bar():
    spans = [Span(0, i * 1e-6, (i + 1) * 1e-6, ("forward", "n", i), 1, False) for i in range(50)]
    spans.append(Span(0, 0.1, 1.0, ("loss", "patch", 0), 1, False))
    bars = chart(spans).bars
    assert [(bar.what, bar.tasks) for bar in bars] == [("forward n", 50), ("loss", 1)]


def test_names_that_fit():
    assert short_name("forward conv1", 13) == "forward conv1"
    assert short_name("forward conv1", 8) == "→conv1"
    assert short_name("gradient conv1", 8) == "conv1"
    assert short_name("loss", 2) == ""


@pytest.mark.parametrize("threads", [1, 2, 8, 128])
def test_a_plan_as_svg(threads: int):
    drawn = em3d(threads)
    text = svg(drawn)
    ET.fromstring(text)
    found = classes(text)
    for kind in drawn.kinds:
        assert found[kind] > 1  # bars beside the one in the legend
    assert set(drawn.kinds) == ({"type-1", "forced"} if threads == 1 else set(COLOURS))
    assert found["step"] == 2
    assert found["ruler"] == 2
    assert "lower bound" in text
    assert "em3d &lt;16&gt;" in text
    assert len(text) < 200_000
    assert 1 <= len(drawn.busy) <= threads


def test_forced_tasks_are_hatched():
    text = svg(em3d(2))
    assert classes(text)["hatch"] == classes(text)["forced"] > 1


def test_every_bar_tells_what_it_is():
    drawn = em3d(2)
    titles = re.findall(r"<title>([^<]*)</title>", svg(drawn))
    assert len(titles) == len(drawn.bars)
    assert any(re.fullmatch(r"forward nconv1 \[0\], step 1: [\d.]+ (ms|µs)", t) for t in titles)


def test_formats(tmp_path: Path):
    drawn = em3d(2)
    for ending, begin in ((".svg", b"<svg"), (".html", b"<!doctype html>"), (".png", b"\x89PNG")):
        save_gantt(drawn, tmp_path / f"chart{ending}")
        assert (tmp_path / f"chart{ending}").read_bytes().startswith(begin)
    assert not re.search(r"<script|https?://(?!www\.w3\.org/2000/svg)", html(drawn))
    with pytest.raises(ValueError, match=r"chart\.pdf ends in '\.pdf'; .*\.svg, \.png, \.html"):
        save_gantt(drawn, tmp_path / "chart.pdf")


def test_nothing_to_draw(tmp_path: Path):
    ET.fromstring(svg(span_gantt([])))
    save_gantt(span_gantt([]), tmp_path / "empty.png")


def test_an_engines_timeline():
    engine = Engine(2)
    jobs = [Job(("forward", "n1", b), 1, (7, 0, b), run=lambda: None) for b in range(4)]
    engine.submit(jobs)
    engine.wait(jobs)
    engine.close()
    drawn = span_gantt(engine.timeline, title="measured")
    assert {bar.step for bar in drawn.bars} == {7}
    assert sum(bar.tasks for bar in drawn.bars) == 4
