"""The table of networks beside PyTorch."""

from dataclasses import replace
from pathlib import Path

import pytest
from compare import DifferentError, check, main, pair, without_dropout
from compare_plot import draw
from compare_record import load, save, together
from compare_report import HEADER, Comparison, Pair, against_znn, geometric_mean, report
from marks import MARKS
from networks import PATCHES
from roofline import Peaks

from znn_dask.network import Network

PEAKS = Peaks(1, 1e11, 1e11)
FOUND = Comparison(
    name="srini2d",
    update=Pair(0.010, 0.030, 3.0),
    forward=Pair(0.004, 0.008, 2.0),
    first_update=(1.5, 0.5),
    memory=(50_000_000, 100_000_000),
    roofline=(0.005, 0.001),
    difference=(1e-6, 2e-6),
    layouts=("channels last", "channels first"),
)


def test_every_cell_has_its_column():
    text = report([FOUND, replace(FOUND, name="unknown")], PEAKS, PEAKS)
    header, rule, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert header.count("|") == rule.count("|") == len(HEADER) + 1
    assert [row.count("|") for row in rows] == [len(HEADER) + 1] * 2
    first = rows[0].split(" | ")
    assert first[1:4] == ["10 / 30", "**3.00**", "7.3x"]
    assert "50%" in first
    assert rows[1].split(" | ")[3] == ""


def test_marks_are_of_the_networks_that_are_compared():
    assert MARKS.keys() == PATCHES.keys()
    mark = MARKS["srini2d"]
    update, forward = against_znn(FOUND) or (0, 0)
    assert update == pytest.approx(3.0 * mark.znn_update / mark.torch_update)
    assert forward == pytest.approx(2.0 * mark.znn_forward / mark.torch_forward)


def test_missed_goals_are_named():
    slow = replace(FOUND, name="wide4_w40_k5_cmcmcc")
    assert "missed (update, forward): none" in report([FOUND], PEAKS, PEAKS)
    assert "wide4_w40_k5_cmcmcc (3.00, 2.00 of 5)" in report([FOUND, slow], PEAKS, PEAKS)


def test_the_plot_is_drawn(tmp_path: Path):
    draw([FOUND, replace(FOUND, name="unknown")], tmp_path / "compare.png")
    assert (tmp_path / "compare.png").stat().st_size > 5000


def test_pieces_come_together(tmp_path: Path):
    path = tmp_path / "compare.json"
    assert load(path) == []
    save([FOUND, replace(FOUND, name="other")], path)
    newer = replace(FOUND, memory=(1, 2))
    assert together(load(path), [newer]) == [newer, replace(FOUND, name="other")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "no network's name has any of nothing"),
        (["missing.znn"], "missing.znn is given without its output patch"),
        (["missing.znn", "--output-size", "1,2"], "1,2 is not three numbers"),
        (["missing.znn", "--output-size", "1,2,3"], "missing.znn"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr("compare.measure_peaks", lambda threads: PEAKS)
    monkeypatch.setattr("sys.argv", ["compare.py", "--torch", "python", *arguments])
    with pytest.raises(SystemExit, match="2"):
        main()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_geometric_mean():
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)


def test_ratios_are_of_neighbouring_rounds():
    """A machine that gets slower from round to round changes no ratio."""
    clock = [1.0]

    def run(cost: float) -> float:
        clock[0] *= 1.1
        return cost * clock[0]

    found = pair(lambda count: run(1.0), lambda count: run(3.0 / 1.1), 0.0)
    assert found.ratio == pytest.approx(3.0)


def test_what_differs_is_not_published():
    check("net", {"output": 1e-6, "gradient": 1e-5})
    with pytest.raises(DifferentError, match=r"net: the gradients .* differ by 2.0e-02"):
        check("net", {"output": 1e-6, "gradient": 2e-2})
    with pytest.raises(DifferentError, match="outputs"):
        check("net", {"output": float("nan"), "gradient": 0.0})


def test_without_dropout_everything_is_kept():
    network = Network().input().conv("c1", 2, (1, 3, 3)).dropout("d1", 0.5).conv("c2", 1, (1, 1, 1))
    kept = without_dropout(network)
    assert [edge.ratio for edge in kept.edges if edge.type == "dropout"] == [1.0]
    assert [edge.name for edge in kept.edges] == [edge.name for edge in network.edges]
