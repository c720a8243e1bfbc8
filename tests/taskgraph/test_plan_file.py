"""Plan files: what is written is read again, and what does not fit is refused in one line."""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planned_networks import NETWORKS

from znn_dask.network import Network
from znn_dask.taskgraph import choose_arithmetic
from znn_dask.taskgraph.arithmetic import Method, PlanError
from znn_dask.taskgraph.plan_file import PlanFile, PlanFileWarning, read_plan, write_plan


def network(width: int = 4, function: str = "tanh", pool: int = 2) -> Network:
    return (
        Network()
        .input()
        .conv("c1", width, (1, 5, 5), function)
        .max_filter("m", (1, pool, pool), (1, 2, 2))
        .conv("c2", 2, (1, 3, 3), "linear", node="output")
    )


SIZE = (2, 30, 30)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    arithmetic = choose_arithmetic(network(), SIZE, given={"c1": Method("tiled", (1, 8, 8))})
    content = PlanFile(arithmetic, {"c1": "tuned", "c2": "default"}, {"c1": {"direct": 1.5}})
    write_plan(tmp_path / "plan.json", network(), content)
    return tmp_path / "plan.json"


def edit(plan: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(plan.read_text())
    change(values)
    plan.write_text(json.dumps(values))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_written_is_read(name: str, dtype: str, tmp_path: Path):
    net, size = NETWORKS[name]
    arithmetic = choose_arithmetic(net, size, dtype)
    content = PlanFile(arithmetic, dict.fromkeys(arithmetic.convolutions, "default"))
    write_plan(tmp_path / "plan.json", net, content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = read_plan(tmp_path / "plan.json", net, size, dtype)
    assert read.arithmetic == arithmetic
    assert read.arithmetic.digest == arithmetic.digest
    assert read.sources == content.sources
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_people_can_read_it(plan: Path):
    text = plan.read_text(encoding="utf-8")
    assert '"c1": {"algorithm": "tiled", "tile": [1, 8, 8], "channels": ' in text
    assert '"shape": "1→4 channels, kernel 1,5,5, dilation 1,1,1"' in text
    assert '"source": "tuned"' in text
    assert '"direct": 1.5' in text
    assert max(map(len, text.splitlines())) < 120


def test_transfer_functions_may_differ(plan: Path):
    assert read_plan(plan, network(function="rectify_linear")).arithmetic.output_size == SIZE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((network(width=5),), "c1 is 1→4 channels.*there, 1→5 channels.*in this network"),
        ((network(pool=3),), "it is for network [0-9a-f]+, this one is [0-9a-f]+"),
        (
            (Network().input().conv("other", 2, (1, 3, 3), "linear", node="output"),),
            "it has conv layers c1, c2; this network has other",
        ),
        ((network(), (2, 30, 31)), "for output size 2,30,30, asked for is 2,30,31"),
        ((network(), SIZE, "float64"), "for float32, asked for is float64"),
    ],
)
def test_plans_for_something_else_are_refused(plan: Path, arguments: Any, message: str):
    with pytest.raises(PlanError, match=message) as caught:
        read_plan(plan, *arguments)
    assert str(caught.value).startswith(f"{plan}: ")
    assert "\n" not in str(caught.value)


def test_a_method_edited_by_hand_is_used_and_said(plan: Path):
    def change(values: dict[str, Any]) -> None:
        values["arithmetic"]["convolutions"]["c2"] = {
            **{"algorithm": "direct", "tile": None, "channels": 2}
        }

    edit(plan, change)
    with pytest.warns(PlanFileWarning, match=r"plan\.json was edited: its arithmetic is [0-9a-f]+"):
        read = read_plan(plan, network())
    assert read.arithmetic.convolutions["c2"].method == Method("direct")


def _set(*keys: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = to

    return change


CONVOLUTION = ("arithmetic", "convolutions", "c1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("format", to="znn-dask plan 9"), "format 'znn-dask plan 9' is not 'znn-dask plan 1'"),
        (_set("arithmetic", to={}), "not a plan: 'output_size' is missing"),
        (_set("layers", to=[]), "not a plan: "),
        (_set("arithmetic", "output_size", to=[1, 2]), "not a plan: "),
        (_set(*CONVOLUTION, "algorithm", to="fast"), "c1: algorithm 'fast' is none of direct"),
        (_set(*CONVOLUTION, "channels", to=0), "c1: blocks of 0 channels"),
        (_set(*CONVOLUTION, "tile", to=[1, 3, 3]), "does not fit the network: "),
        (_set(*CONVOLUTION, "tile", to=None), "does not fit the network: .*needs a tile"),
        (_set("arithmetic", "convolutions", to={}), "it has conv layers ; this network has c1, c2"),
        (_set("arithmetic", "cuts", to={}), "it has cuts of node groups ; this network has"),
        (_set("arithmetic", "cuts", "c1", to=[3, 1, 1]), "not a plan|cut |cuts of node groups"),
        (_set("arithmetic", "dtype", to="int8"), "int8"),
    ],
)
def test_nonsense_is_refused(plan: Path, change: Any, message: str):
    edit(plan, change)
    with pytest.raises(PlanError, match=message) as caught:
        read_plan(plan, network())
    assert str(caught.value).startswith(f"{plan}: ")


def test_cuts_that_go_through_tiles_are_refused(plan: Path):
    node = network().edge("c1").output

    axis, step, _ = json.loads(plan.read_text())["arithmetic"]["cuts"][node]
    edit(plan, _set("arithmetic", "cuts", node, to=[1, 3, 4]))
    pattern = (
        f"c1 as tiled:1,8,8 can be cut at multiples of {step} along axis {axis}, the plan cuts "
        f"{node} at multiples of 3 along axis 1"
    )
    with pytest.raises(PlanError, match=pattern):
        read_plan(plan, network())


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}', "\xff"])
def test_other_files_are_refused(tmp_path: Path, content: str):
    (tmp_path / "plan.json").write_text(content, encoding="latin-1")
    with pytest.raises(PlanError, match=re.escape(f"{tmp_path / 'plan.json'}: ")):
        read_plan(tmp_path / "plan.json", network())
    with pytest.raises(PlanError, match=r"none\.json: cannot be read: No such file"):
        read_plan(tmp_path / "none.json", network())


def test_the_file_is_written_whole_or_not_at_all(plan: Path, monkeypatch: pytest.MonkeyPatch):
    before = plan.read_text()

    def fail(*arguments: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("znn_dask.taskgraph.plan_file._text", fail)
    arithmetic = choose_arithmetic(network(), SIZE)
    content = PlanFile(arithmetic, {"c1": "default", "c2": "default"})
    with pytest.raises(KeyboardInterrupt):
        write_plan(plan, network(), content)
    assert plan.read_text() == before
    assert [path.name for path in plan.parent.iterdir()] == ["plan.json"]
