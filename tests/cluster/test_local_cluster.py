"""A cluster on this machine: its threads, its settings, and what it opens to the network."""

import os
import subprocess
import sys

import dask
import pytest
from threadpoolctl import threadpool_info

from znn_dask.cluster.local import SETTINGS, cores, local_cluster
from znn_dask.cluster.members import present_workers
from znn_dask.cluster.plugin import install
from znn_dask.taskgraph.engine import process_engine

LISTENING = """
import os
from pathlib import Path
from znn_dask.cluster.local import local_cluster

def listening(*_):
    "Addresses (hexadecimal) on which this process listens."
    inodes = set()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            inodes.add(os.readlink(fd).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            pass
    rows = [l.split() for p in ("tcp", "tcp6") for l in open(f"/proc/net/{p}").readlines()[1:]]
    return sorted({r[1].split(":")[0] for r in rows if r[3] == "0A" and r[9] in inodes})

if __name__ == "__main__":
    found = set()
    for processes in (False, True):
        for dashboard in (False, True):
            with local_cluster(1, processes=processes, dashboard=dashboard) as client:
                found.update(listening())
                found.update(*client.run(listening).values())
    print(*found)
"""


@pytest.mark.cluster
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_only_the_loopback_interface_is_listened_on():
    done = subprocess.run(
        [sys.executable, "-c", LISTENING],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0100007F"]


def test_one_process_with_all_cores_is_the_default():
    with local_cluster(dashboard=False) as client:
        (worker,) = present_workers(client).values()
        assert worker["nthreads"] == cores()
        assert client.submit(os.getpid).result() == os.getpid()
        assert dask.config.get("distributed.scheduler.worker-saturation") != float("inf")


def test_cores_are_shared_among_workers():
    with local_cluster(workers=2, dashboard=False) as client:
        workers = present_workers(client).values()
        assert [w["nthreads"] for w in workers] == [max(1, cores() // 2)] * 2


def test_workers_of_a_process_share_an_engine_that_grows_and_shrinks_with_them():
    before = process_engine().threads
    with local_cluster(2, workers=2, dashboard=False) as client:
        install(client)
        install(client)  # a second training on the same cluster
        assert process_engine().threads == before + 4
        assert {
            pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"
        } == {1}
    assert process_engine().threads == before


@pytest.mark.cluster
def test_worker_processes_have_the_settings():
    def settings() -> dict[str, object]:
        return {key: dask.config.get(key) for key in SETTINGS}

    with local_cluster(1, processes=True, dashboard=False) as client:
        (found,) = client.run(settings).values()
    assert found == SETTINGS
