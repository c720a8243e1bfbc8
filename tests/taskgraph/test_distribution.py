"""Plans over batches and workers: the totals that people and programs read."""

import json

import pytest

from znn_dask.network import zoo
from znn_dask.taskgraph.arithmetic import PlanError
from znn_dask.taskgraph.distribution import distribute
from znn_dask.taskgraph.explain import table
from znn_dask.taskgraph.plan import Plan, plan


def made(**settings: int | bool) -> Plan:
    return plan(zoo.em3d(), (16, 16, 16), slowness=1.0, **{"threads": 2, **settings})  # type: ignore[arg-type]


def test_one_patch_is_the_plan_itself():
    spread = distribute(made())
    assert spread.patches == (1,)
    assert spread.step_seconds == spread.plan.update_seconds
    assert spread.exchange_seconds == spread.moved_bytes == 0
    assert 0 < spread.efficiency <= 1 + 1e-9


@pytest.mark.parametrize(
    ("workers", "batch", "placement"),
    [
        (1, 4, [(0, 3)]),
        (3, None, [(0, 0), (1, 1), (2, 2)]),
        (3, 7, [(0, 2), (3, 4), (5, 6)]),
    ],
)
def test_every_patch_is_placed_once(
    workers: int, batch: int | None, placement: list[tuple[int, int]]
):
    spread = distribute(made(workers=workers), batch)
    assert spread.placement() == placement
    assert spread.batch == (batch or workers)


def test_more_patches_take_longer_and_less_each():
    one, four = distribute(made(), 1), distribute(made(), 4)
    assert one.step_seconds < four.step_seconds < 4 * one.step_seconds
    assert four.schedule.work < 4 * one.schedule.work  # the update is made once


def test_workers_exchange_what_they_computed():
    alone, together = distribute(made(), 4), distribute(made(workers=2), 4)
    assert together.exchange_seconds > 0
    assert together.moved_bytes > 0
    assert together.step_seconds < alone.step_seconds
    assert together.efficiency < alone.efficiency
    forward = distribute(made(workers=2, training=False), 4)
    assert forward.exchange_seconds == 0


def test_fewer_patches_than_workers_are_refused():
    with pytest.raises(PlanError, match="3 workers, but a batch of 2: "):
        distribute(made(workers=3), 2)


def test_totals_are_json():
    spread = distribute(made(workers=2), 5)
    values = json.loads(json.dumps(spread.to_dict()))
    assert values["predicted_update_s"] == spread.step_seconds
    assert values["placement"] == [[0, 2], [3, 4]]
    assert values["bound_s"] <= values["predicted_update_s"]
    assert values["bound_s"] == max(values["work_s"] / 2, values["critical_path_s"])
    assert values["over_bound"] == pytest.approx(
        spread.schedule.step_seconds / values["bound_s"] - 1
    )
    assert {"exchange_s", "moved_bytes", "efficiency", "granule", "forced_tasks"} <= values.keys()
    assert "predicted_bytes" in values  # the plan's own values are there too


@pytest.mark.parametrize("workers", [1, 2, 9])
def test_the_table_tells_all_totals(workers: int):
    text = table(made(workers=workers), 2 * workers)
    lines = text.splitlines()
    assert all(len(line) <= 120 for line in lines)
    names = {line.partition(":")[0] for line in lines}
    always = {"predicted update", "lower bound", "work", "patches", "a Dask task holds"}
    assert always | {"predicted memory", "arithmetic"} <= names
    assert ("exchange" in names) == (workers > 1)
    assert f"{2 * workers} in a batch: 0-1 on worker 0" in text
    assert distribute(made(workers=workers), 2 * workers).plan.bytes > made(workers=workers).bytes
    assert ("..." in text) == (workers > 4)
