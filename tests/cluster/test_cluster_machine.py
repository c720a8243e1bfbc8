"""Constants of Dask and the network, measured with two worker processes."""

import pytest

from znn_dask.cluster.machine import measure_cluster
from znn_dask.network import zoo
from znn_dask.taskgraph.machine import Machine
from znn_dask.taskgraph.plan import plan
from znn_dask.taskgraph.timings import stored

CONSTANTS = {"granule_seconds", "hop_seconds", "bytes_per_second"}


@pytest.mark.cluster
def test_constants_are_measured_and_plans_count_with_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert plan(zoo.small3d(), (4, 8, 8), workers=2).machine == Machine()
    measured = measure_cluster()
    assert measured == stored()
    assert set(measured.constants) == CONSTANTS
    assert all(value > 0 for value in measured.constants.values())
    made = plan(zoo.small3d(), (4, 8, 8), workers=2)
    assert made.machine == measured.machine != Machine()
