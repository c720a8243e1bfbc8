import json
from pathlib import Path

import pytest
from cli_cases import run

KEYS = {
    "update_s",
    "forward_s",
    "kernels_only_update_s",
    "predicted_update_s",
    "peak_rss_bytes",
    "rss_above_idle_bytes",
    "threads",
    "plan",
    "network",
    "output_size",
    "dtype",
}


def test_bench_reports_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(
        capsys,
        *("bench", project / "tiny.znn", "--output-size", "4,8,8", "--threads", "1"),
        *("--mode", "direct", "--seconds", "1", "--json"),
    )
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result.keys() >= KEYS
    assert 0 < result["forward_s"] < result["kernels_only_update_s"]
    assert result["update_s"] > 0
    assert result["peak_rss_bytes"] > result["rss_above_idle_bytes"]
    assert [row["algorithm"] for row in result["plan"]] == ["direct", "direct"]
    assert all(len(times) >= 3 for times in result["rounds"].values())


def test_bench_of_the_forward_pass(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("bench", project / "tiny.znn", "--output-size", "4,8,8", "--seconds", "0.5")
    result = json.loads(run(capsys, *arguments, "--forward-only", "--json").out)
    assert result["update_s"] is None
    assert result["forward_s"] > 0
    done = run(capsys, *arguments, "--forward-only")
    assert "forward pass" in done.out
    assert "update, " not in done.out
