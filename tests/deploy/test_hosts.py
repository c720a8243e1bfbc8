"""Scheduler, workers and client on hosts of their own, over TLS: by hand, and by deploy/ssh."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from machines import DEPLOY, Processes, same_bits, wait_until, write_project
from namespaces import Hosts, NoNamespacesError

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's"),
]
SCRIPT = str(DEPLOY / "ssh" / "cluster")
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")

SSHD_CONFIG = """
ListenAddress {address}
HostKey {folder}/host-key
AuthorizedKeysFile {folder}/user-key.pub
PidFile {folder}/{address}.pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""
SSH_CONFIG = """
IdentityFile {folder}/user-key
IdentitiesOnly yes
StrictHostKeyChecking accept-new
UserKnownHostsFile {folder}/known-hosts
BatchMode yes
LogLevel ERROR
"""


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    try:
        with Hosts(4) as hosts:
            yield hosts
    except NoNamespacesError as reason:
        pytest.skip(str(reason))


REFUSED = """
import dask, sys
from znn_dask.cli.arguments import connect
ours, plain = sys.argv[1:]
for address, settings in ((ours, {}), (plain, {"distributed.comm.require-encryption": None})):
    try:
        with dask.config.set(settings):
            connect(address)
    except OSError as error:
        print(error)
"""


@pytest.mark.slow
def test_hosts_give_the_bits_of_one_process_and_let_no_stranger_in(
    processes: Processes,
    hosts: Hosts,
    here: Path,
    certificates: Path,
    foreign_certificates: Path,
    tmp_path: Path,
) -> None:
    scheduler, *workers, client = range(4)
    ours = {"DASK_CONFIG": str(certificates)}
    address = processes.scheduler(hosts.address(scheduler), hosts.inside(scheduler), **ours)
    assert address.startswith(f"tls://{hosts.address(scheduler)}:")
    for host in workers:
        processes.worker(address, hosts.address(host), hosts.inside(host), **ours)
    joined = f"""
from distributed import Client
with Client({address!r}, timeout=60) as client:
    client.wait_for_workers(2, timeout=60)
"""
    assert processes.run([*hosts.inside(client), "python", "-c", joined], **ours).returncode == 0
    there = write_project(tmp_path / "there")
    for command in (
        ["znn-dask", "train", "config.toml"],
        ["znn-dask", "predict", "checkpoints", "volume.zarr/image", "map.zarr"],
    ):
        command = [*hosts.inside(client), *command, "--scheduler", address]
        done = processes.run(command, cwd=there, **ours)
        assert done.returncode == 0, done.stderr
    same_bits(here, there)

    strangers = ["python", "-c", REFUSED, address, address.replace("tls", "tcp")]
    done = processes.run([*hosts.inside(client), *strangers], DASK_CONFIG=str(foreign_certificates))
    foreign, plain = done.stdout.splitlines()
    assert "is not of the authority in" in foreign
    assert "it closes plain connections" in plain


@pytest.fixture
def servers(processes: Processes, hosts: Hosts) -> list[str]:
    """Hosts 0 and 1 run sshd; the command by which host 3 reaches them."""
    if SSHD is None:
        pytest.skip("no sshd here (openssh-server)")
    folder = processes.folder
    Path("/run/sshd").mkdir(exist_ok=True)  # where it leaves its privileges
    for key in ("host-key", "user-key"):
        generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(generate, check=True)
    (folder / "ssh-config").write_text(SSH_CONFIG.format(folder=folder))
    for host in (0, 1):
        config = folder / f"sshd-{host}"
        config.write_text(SSHD_CONFIG.format(folder=folder, address=hosts.address(host)))
        processes.start(f"sshd-{host}", [*hosts.inside(host), SSHD, "-D", "-e", "-f", str(config)])
    wait_until(lambda: len(list(folder.glob("10.*.pid"))) == 2)
    return ["ssh", "-F", str(folder / "ssh-config")]


@pytest.mark.slow
def test_the_script_brings_a_cluster_up_and_down_over_ssh(
    processes: Processes, hosts: Hosts, servers: list[str], certificates: Path, tmp_path: Path
) -> None:
    cluster = Path(shutil.copytree(certificates, tmp_path / "cluster"))
    tls = (cluster / "tls.yaml").read_text().replace(str(certificates), str(cluster))
    (cluster / "tls.yaml").write_text(tls)
    (tmp_path / "hosts").write_text(f"{hosts.address(0)}  # scheduler too\n\n{hosts.address(1)}\n")
    inside = hosts.inside(3)

    def script(action: str) -> subprocess.CompletedProcess[str]:
        return processes.run(
            [*inside, SCRIPT, action, "hosts", "cluster"], SSH=" ".join(servers), THREADS="1"
        )

    up = script("up")
    logs = "".join(path.read_text() for path in cluster.glob("*.log"))
    assert up.returncode == 0, up.stderr + logs
    address = up.stdout.strip()
    assert address == f"tls://{hosts.address(0)}:8786"
    try:
        ours = {"DASK_CONFIG": str(cluster)}
        project = write_project(tmp_path / "project")
        train = ["znn-dask", "train", str(project / "config.toml"), "--scheduler", address]
        done = processes.run([*inside, *train], **ours)
        assert done.returncode == 0, done.stderr
        again = script("up")
        assert again.returncode == 2
        assert "it runs already; bring it down first" in again.stderr
        pids = [int(path.read_text()) for path in cluster.glob("*.pid")]
        assert len(pids) == 3
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    finally:
        assert script("down").returncode == 0
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert not list(cluster.glob("*.pid"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["up", "no-hosts", "cluster"], "no file of hosts: no-hosts"),
        (["up", "empty", "cluster"], "empty names no host"),
        (["up", "hosts", "no-cluster"], "`znn-dask certificates no-cluster` makes it"),
        (["up", "hosts", "cluster"], "has no dask.yaml"),
        (["round", "hosts", "cluster"], "deploy/ssh/cluster up"),
    ],
)
def test_what_the_script_lacks_is_said(
    processes: Processes, arguments: list[str], words: str
) -> None:
    (processes.folder / "hosts").write_text("node1\n")
    (processes.folder / "empty").write_text("# none\n")
    (processes.folder / "cluster").mkdir()
    done = processes.run([SCRIPT, *arguments])
    assert done.returncode == 2
    assert words in done.stderr
