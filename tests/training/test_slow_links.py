"""A cluster whose workers sit behind slow links, in network namespaces: the same bits."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_cluster import RealCluster
from slow_links import NoLinksError, SlowLinks
from striped_volume import write_volume

from znn_dask.training.checkpoint import load_checkpoint

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's"),
]
BITS_PER_SECOND = 50e6
DELAY = 0.005

TRAIN = """
import sys
from distributed import Client
from small_network import NETWORK, OUTPUT
from znn_dask.cluster.local import local_cluster
from znn_dask.training import trainer as trainer_module
from znn_dask.training.optimizer import SGD

volume, folder, address = sys.argv[1:]
if __name__ == "__main__":
    trainer_module.Estimate = lambda *_: None  # use every worker, though it does not pay here
    with Client(address) if address else local_cluster(2, dashboard=False) as client:
        client.wait_for_workers(2 if address else 1)
        trainer = trainer_module.Trainer(
            NETWORK, volume, OUTPUT, batch=4, seed=4, folder=folder, client=client,
            optimizer=SGD(0.01, momentum=0.9), progress=False,
        )
        trainer.fit(50)
        workers = client.run(lambda dask_worker: dask_worker.transfer_outgoing_bytes_total)
        print(*workers.values())
"""


@pytest.fixture
def links() -> Iterator[SlowLinks]:
    try:
        with SlowLinks(2, BITS_PER_SECOND, DELAY) as links:
            yield links
    except NoLinksError as reason:
        pytest.skip(str(reason))


def train(volume: Path, folder: Path, address: str = "", inside: tuple[str, ...] = ()) -> list[int]:
    """Fifty updates in a process of their own; the bytes that each worker sent to others."""
    here = Path(__file__)
    path = os.pathsep.join([str(here.parents[2]), str(here.parents[1])])
    done = subprocess.run(
        [*inside, sys.executable, "-c", TRAIN, str(volume), str(folder), address],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def round_trip(links: SlowLinks) -> float:
    """Seconds that a connection from one spoke to the other takes to be refused."""
    code = (
        "import socket, time\n"
        "began = time.monotonic()\n"
        f"assert socket.socket().connect_ex(({links.address(1)!r}, 9)) == 111\n"
        "print(time.monotonic() - began)"
    )
    command = [*links.inside(links.spokes[0]), sys.executable, "-c", code]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def test_workers_behind_slow_links_give_the_bits_of_one_process(tmp_path: Path, links: SlowLinks):
    assert round_trip(links) > 4 * DELAY  # to the hub and on, and back
    volume = write_volume(tmp_path / "v.zarr")
    folder = tmp_path / "cluster"
    folder.mkdir()
    hub = links.inside(links.hub)
    with RealCluster(folder, links.hub_address, hub) as cluster:
        for i, spoke in enumerate(links.spokes):
            cluster.add_worker(spoke, host=links.address(i), inside=links.inside(spoke))
        began = time.monotonic()
        sent = train(volume, tmp_path / "far", cluster.address, tuple(hub))
        seconds = time.monotonic() - began
    train(volume, tmp_path / "near")
    near, far = (load_checkpoint(tmp_path / name) for name in ("near", "far"))
    assert near.step == far.step == 50
    for kind in ("parameters", "momenta"):
        for name, values in getattr(near, kind).items():
            assert getattr(far, kind)[name].tobytes() == values.tobytes(), name
    gradient_bytes = sum(values.nbytes for values in near.parameters.values())
    # Both computed in every update, and exchanged sums; those at the ends may go uncounted.
    assert min(sent) > 45 * gradient_bytes, (sent, gradient_bytes)
    assert seconds > 50 * 2 * 2 * DELAY  # two hops and an exchange per update, each over two links
