"""Nothing of ours listens to strangers, and wrong certificates are one line."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dask
import pytest
import yaml
from machines import Processes, cluster_folder

from znn_dask.cli.arguments import connect
from znn_dask.cluster import certificates as certificates_module
from znn_dask.cluster.checks import ClusterWarning
from znn_dask.cluster.local import local_cluster
from znn_dask.cluster.members import present_workers
from znn_dask.cluster.security import SecurityError, beyond_loopback, open_to_strangers


@contextmanager
def configured(folder: Path) -> Iterator[None]:
    """As if DASK_CONFIG named this folder."""
    settings = yaml.safe_load((folder / "tls.yaml").read_text())
    with dask.config.set(dict(leaves(settings))):
        yield


def leaves(settings: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize(
    ("address", "beyond"),
    [
        ("127.0.0.1", False),
        ("localhost", False),
        ("::1", False),
        ("tcp://127.0.0.1:8786", False),
        ("tcp://[::1]:8786", False),
        ("0.0.0.0", True),
        ("", True),
        ("::", True),
        ("10.1.2.3", True),
        ("tls://10.1.2.3:8786", True),
        ("tcp://:8786", True),
        ("no-such-host.invalid", True),
    ],
)
def test_what_another_machine_may_reach(address: str, beyond: bool) -> None:
    assert beyond_loopback(address) is beyond


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("tcp://10.1.2.3:8786", True),
        ("10.1.2.3:8786", True),
        ("ws://10.1.2.3:8786", True),
        ("tls://10.1.2.3:8786", False),
        ("wss://10.1.2.3:8786", False),
        ("tcp://127.0.0.1:8786", False),
        ("inproc://10.1.2.3/4/1", False),
    ],
)
def test_what_strangers_may_read(address: str, is_open: bool) -> None:
    assert open_to_strangers(address) is is_open


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", ""])
@pytest.mark.parametrize("processes", [False, True])
def test_a_cluster_does_not_listen_beyond_loopback_without_tls(host: str, processes: bool) -> None:
    with pytest.raises(SecurityError, match="without TLS") as error:
        local_cluster(1, host=host, processes=processes)
    assert "znn-dask certificates FOLDER" in str(error.value)
    assert "\n" not in str(error.value)


def test_with_certificates_it_listens_beyond_loopback_and_encrypts(certificates: Path) -> None:
    with configured(certificates), local_cluster(1, host="0.0.0.0", dashboard=False) as cluster:
        address = cluster.scheduler.address
        assert address.startswith("tls://")
        assert all(worker.startswith("tls://") for worker in present_workers(cluster))
        port = address.rpartition(":")[2]
        client = connect(f"tls://127.0.0.1:{port}")
        assert client.submit(sum, [1, 2]).result() == 3
        client.close()


def test_certificates_without_the_demand_for_them_encrypt_too(certificates: Path) -> None:
    with (
        configured(certificates),
        dask.config.set({"distributed.comm.require-encryption": None}),
        local_cluster(1, host="0.0.0.0", dashboard=False) as cluster,
    ):
        assert cluster.scheduler.address.startswith("tls://")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    folder = cluster_folder(tmp_path)
    (folder / "node-key.pem").unlink()
    with configured(folder), pytest.raises(SecurityError, match=r"there is no file .*node-key"):
        local_cluster(1, host="0.0.0.0")


def test_a_cluster_in_this_process_stays_there_where_encryption_is_required(
    certificates: Path,
) -> None:
    with configured(certificates), local_cluster(1, dashboard=False) as client:
        assert client.scheduler.address.startswith("inproc://")


# --- connecting; `connect` is what every command with --scheduler does ---


@pytest.fixture(scope="module")
def schedulers(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], certificates: Path
) -> Iterator[dict[str, str]]:
    """Schedulers with the files of deploy/ (tls), with an old certificate, and without any."""
    folder = tmp_path_factory.mktemp("schedulers")
    with Processes(folder, environment) as processes:
        yield {
            "tls": processes.scheduler(DASK_CONFIG=str(certificates)),
            "old": processes.scheduler(DASK_CONFIG=str(expired(certificates, folder / "old"))),
            "plain": processes.scheduler(),
        }


def expired(certificates: Path, folder: Path) -> Path:
    """A folder like that of certificates, of the same authority, but its time is over."""
    folder.mkdir()
    for name in ("ca.pem", "ca-key.pem"):
        (folder / name).write_bytes((certificates / name).read_bytes())

    class Past(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2020, 1, 1, tzinfo=UTC)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates_module, "datetime", Past)
        return cluster_folder(folder)


def refusal(address: str) -> str:
    with pytest.raises((OSError, SecurityError)) as error:
        connect(address)
    text = str(error.value)
    assert "\n" not in text
    del error
    gc.collect()  # Dask's failed clients can block the next one that starts, for 10 s
    return text


pytestmark = pytest.mark.cluster


def test_the_scheduler_of_these_files_speaks_tls_alone(schedulers: dict[str, str]) -> None:
    assert schedulers["tls"].startswith("tls://")
    assert schedulers["plain"].startswith("tcp://")


def test_its_own_certificates_open_it(schedulers: dict[str, str], certificates: Path) -> None:
    with configured(certificates):
        connect(schedulers["tls"]).close()


def test_no_certificates(schedulers: dict[str, str]) -> None:
    assert "takes certificates (distributed.comm.tls.ca-file" in refusal(schedulers["tls"])


def test_a_plain_client(schedulers: dict[str, str]) -> None:
    text = refusal(schedulers["tls"].replace("tls", "tcp"))
    assert f"does it use TLS? Then write {schedulers['tls']}" in text


def test_a_plain_client_that_must_encrypt(schedulers: dict[str, str], certificates: Path) -> None:
    with configured(certificates):
        text = refusal(schedulers["plain"])
    assert "refuse plain connections" in text


def test_a_foreign_authority(schedulers: dict[str, str], foreign_certificates: Path) -> None:
    with configured(foreign_certificates):
        text = refusal(schedulers["tls"])
    assert f"is not of the authority in {foreign_certificates / 'ca.pem'}" in text


def test_a_foreign_certificate(
    schedulers: dict[str, str], certificates: Path, foreign_certificates: Path
) -> None:
    foreign = {
        f"distributed.comm.tls.client.{kind}": str(foreign_certificates / name)
        for kind, name in (("cert", "node.pem"), ("key", "node-key.pem"))
    }
    with configured(certificates), dask.config.set(foreign):
        text = refusal(schedulers["tls"])
    assert f"does not take the certificate {foreign_certificates / 'node.pem'}" in text


def test_ours_has_expired(schedulers: dict[str, str], certificates: Path, tmp_path: Path) -> None:
    with configured(expired(certificates, tmp_path / "old")):
        text = refusal(schedulers["tls"])
    assert f"does not take the certificate {tmp_path / 'old' / 'node.pem'}" in text
    assert "when it has expired, make it again there" in text


def test_that_of_the_scheduler_has_expired(schedulers: dict[str, str], certificates: Path) -> None:
    with configured(certificates):
        text = refusal(schedulers["old"])
    assert "the certificate of the scheduler has expired" in text


# When the other side speaks first, Dask forgets the socket.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_tls_there(schedulers: dict[str, str], certificates: Path) -> None:
    address = schedulers["plain"]
    with configured(certificates):
        text = refusal(address.replace("tcp", "tls"))
    assert f"it does not speak TLS; write {address}" in text


def test_a_stranger_on_the_way_is_warned_of(
    schedulers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(schedulers["plain"]).close()  # on loopback without one: warnings are errors here
    monkeypatch.setattr("znn_dask.cluster.security.beyond_loopback", lambda address: True)
    with pytest.warns(ClusterWarning, match="is not encrypted: whoever reaches it"):
        connect(schedulers["plain"]).close()


def test_a_command_ends_with_that_line(
    processes: Processes, schedulers: dict[str, str], foreign_certificates: Path
) -> None:
    done = processes.run(
        ["znn-dask", "predict", "a", "b", "c", "--scheduler", schedulers["tls"]],
        DASK_CONFIG=str(foreign_certificates),
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"znn-dask: no connection to the scheduler at {schedulers['tls']}: the ")
