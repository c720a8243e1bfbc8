"""Plans: the half that decides the bits, the half that does not, and what people read."""

import json
import math

import pytest
from planned_networks import NETWORKS

from znn_dask.network import Network, NetworkError
from znn_dask.taskgraph.arithmetic import Arithmetic, PlanError
from znn_dask.taskgraph.choice import choose_arithmetic
from znn_dask.taskgraph.plan import Plan, plan

SIZE = (8, 16, 16)
SMALL = (
    Network()
    .input()
    .conv("c1", 12, (3, 5, 5))
    .max_filter("m", (1, 2, 2), (1, 2, 2))
    .conv("c2", 16, (1, 5, 5))
    .conv("c3", 3, 1, "linear", node="output")
)


def planned(size: tuple[int, int, int] = SIZE, **settings: object) -> Plan:
    return plan(SMALL, size, **{"slowness": 1.0, **settings})  # type: ignore[arg-type]


def test_the_arithmetic_depends_on_no_machine():
    expected = choose_arithmetic(SMALL, SIZE)
    for settings in (
        {"threads": 8},
        {"workers": 5},
        {"memory_limit": 10**10},
        {"slowness": 17.0},
        {"slowness": None},
    ):
        made = planned(**settings)
        assert made.arithmetic == expected
        assert made.arithmetic.digest == expected.digest


def test_the_arithmetic_depends_on_what_is_computed():
    digests = {
        choose_arithmetic(SMALL, SIZE).digest,
        choose_arithmetic(SMALL, SIZE, "float64").digest,
        choose_arithmetic(SMALL, (6, 16, 16)).digest,
        choose_arithmetic(SMALL, SIZE, algorithm="fft").digest,
    }
    assert len(digests) == 4


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("algorithm", ["auto", "direct", "fft", "tiled"])
def test_an_arithmetic_survives_json(name: str, algorithm: str):
    network, size = NETWORKS[name]
    arithmetic = choose_arithmetic(network, size, "float64", algorithm)
    copy = Arithmetic.from_dict(json.loads(json.dumps(arithmetic.to_dict())))
    assert copy == arithmetic
    assert copy.digest == arithmetic.digest
    assert plan(network, size, arithmetic=copy, slowness=1.0).arithmetic is copy


@pytest.mark.parametrize("algorithm", ["direct", "fft", "tiled"])
def test_one_algorithm_for_all_but_kernels_of_one_voxel(algorithm: str):
    network, size = NETWORKS["branched"]
    choices = choose_arithmetic(network, size, algorithm=algorithm).convolutions
    for edge in network.conv_edges:
        expected = "direct" if edge.size == (1, 1, 1) else algorithm
        assert choices[edge.name].algorithm == expected
        assert (choices[edge.name].tile is not None) == (expected == "tiled")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "fast"}, "algorithm 'fast' is unknown; use one of auto, direct, fft, tiled"),
        ({"dtype": "float16"}, "dtype 'float16' is unknown; use float32 or float64"),
    ],
)
def test_what_is_unknown_is_refused(settings: dict[str, str], message: str):
    with pytest.raises(PlanError, match=message):
        planned(**settings)


def test_an_impossible_size_is_refused():
    with pytest.raises(NetworkError, match="output size"):
        plan(SMALL, (0, 1, 1), slowness=1.0)


@pytest.mark.parametrize("algorithm", ["auto", "direct"])
@pytest.mark.parametrize("training", [True, False])
def test_a_limit_says_what_would_fit_and_it_does(algorithm: str, training: bool):
    settings = {"algorithm": algorithm, "training": training}
    size = (16, 90, 90)
    needed = planned(size, **settings).bytes
    assert planned(size, **settings, memory_limit=needed).bytes == needed
    limit = needed * 4 // 10
    with pytest.raises(PlanError) as refused:
        planned(size, **settings, memory_limit=limit)
    message = str(refused.value)
    assert message.startswith("output size 16,90,90 needs ")
    assert message.endswith(" would fit")
    z, y, x = map(int, message.split("; ")[1].split(" ")[0].split(","))
    assert max(z, y, x) < 90
    fitting = plan(SMALL, (z, y, x), slowness=1.0, memory_limit=limit, **settings)  # type: ignore[arg-type]
    assert fitting.bytes <= limit


def test_a_limit_that_nothing_fits():
    message = (
        r"needs [\d.]+ MB, [\d.]+ MB recomputing, the limit is 1 kB; "
        "no smaller output patch would fit"
    )
    with pytest.raises(PlanError, match=message):
        planned(memory_limit=1000)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_the_table_names_every_edge_group(name: str, training: bool):
    network, size = NETWORKS[name]
    made = plan(network, size, threads=2, slowness=1.0, training=training)
    lines = made.explain().splitlines()
    assert all(len(line.rstrip()) <= 120 for line in lines)
    firsts = [line.split()[0] for line in lines if line.strip()]
    for edge in network.edges:
        assert edge.name in firsts
    text = made.explain()
    assert made.arithmetic.digest in text
    assert f"predicted {'update' if training else 'forward pass'}: " in text
    assert "predicted memory: " in text
    assert "on 2 thread(s)" in text
    assert [row.layer for row in made.rows if row.algorithm] == [
        row.layer for row in made.rows if row.kind == "conv"
    ]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
def test_totals_are_json(name: str, training: bool):
    network, size = NETWORKS[name]
    made = plan(network, size, threads=2, slowness=1.0, training=training)
    values = json.loads(json.dumps(made.to_dict()))
    assert tuple(values["output_size"]) == size
    assert values["digest"] == made.arithmetic.digest
    predicted = values["predicted_update_s" if training else "predicted_forward_s"]
    assert 0 < predicted <= values["work_s"] + 1e-9
    assert len(values["layers"]) == len(network.edges)
    assert values["predicted_bytes"] == made.bytes > 0
    assert all(math.isfinite(v) for v in values.values() if isinstance(v, float))


def test_a_forward_pass_is_cheaper_than_an_update():
    update, forward = planned(), planned(training=False)
    assert forward.update_seconds < update.update_seconds / 2
    assert forward.bytes < update.bytes
    assert {task.id.kind for task in forward.tasks} == {"load", "forward"}


def test_a_slower_machine_takes_longer_for_the_same():
    fast, slow = planned(), planned(slowness=3.0)
    assert slow.schedule.work > 2 * fast.schedule.work
    assert slow.bytes == pytest.approx(fast.bytes, rel=0.1)  # another order of the same tasks
    assert [task.id for task in slow.tasks] == [task.id for task in fast.tasks]


def test_float64_takes_twice_the_memory():
    size = (16, 120, 120)
    one = planned(size, algorithm="direct")
    two = planned(size, algorithm="direct", dtype="float64")
    assert 1.8 * one.bytes < two.bytes < 2 * one.bytes


def test_short_steps_share_a_granule_and_long_ones_are_split():
    tiny = Network().input().conv("c", 2, (1, 3, 3), "linear", node="output")
    assert plan(tiny, (1, 4, 4), slowness=1.0).steps_per_granule > 10
    assert plan(tiny, (1, 4, 4), slowness=1e6).steps_per_granule == 0


def test_plans_of_one_network_are_equal():
    assert planned() == planned()
    assert planned().layers.blocks == planned().layers.blocks
