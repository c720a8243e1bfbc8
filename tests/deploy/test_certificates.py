"""`znn-dask certificates`: an authority, certificates that hold, keys that nobody else reads."""

import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from znn_dask.cli import main
from znn_dask.cluster.certificates import CertificateError, make_certificates


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    make_certificates(folder)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {
        "ca.pem": 0o644,
        "ca-key.pem": 0o600,
        "node.pem": 0o644,
        "node-key.pem": 0o600,
        "tls.yaml": 0o644,
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_key_that_others_could_read_is_replaced_by_one_that_they_cannot(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    (tmp_path / "node-key.pem").chmod(0o644)
    make_certificates(tmp_path)
    assert stat.S_IMODE((tmp_path / "node-key.pem").stat().st_mode) == 0o600


def test_the_authority_signs_the_node_and_only_that(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["node1.lan", "10.0.0.7"], days=30)
    authority, node = certificate(tmp_path / "ca.pem"), certificate(tmp_path / "node.pem")
    node.verify_directly_issued_by(authority)
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not node.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = node.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == [
        *("localhost", "127.0.0.1", "node1.lan", "10.0.0.7")
    ]
    left = node.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)


def test_openssl_takes_them_strictly(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(tmp_path / "node.pem", tmp_path / "node-key.pem")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "node.pem", tmp_path / "node-key.pem")
    server.load_verify_locations(tmp_path / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        context.wrap_bio(there, here, server_hostname="localhost"),
        server.wrap_bio(here, there, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert all(end.version() == "TLSv1.3" for end in ends)
    assert ends[1].getpeercert()


def test_again_in_the_same_folder_renews_the_node_and_keeps_the_authority(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    make_certificates(tmp_path)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    changed = {name for name, content in after.items() if before[name] != content}
    assert changed == {"node.pem", "node-key.pem"}
    certificate(tmp_path / "node.pem").verify_directly_issued_by(certificate(tmp_path / "ca.pem"))


@pytest.mark.parametrize("absent", ["ca.pem", "ca-key.pem"])
def test_half_an_authority_is_not_replaced(tmp_path: Path, absent: str) -> None:
    make_certificates(tmp_path)
    (tmp_path / absent).unlink()
    with pytest.raises(CertificateError, match=rf"without {absent}"):
        make_certificates(tmp_path)
    assert not (tmp_path / absent).exists()


@pytest.mark.parametrize("host", ["", "two words", "böse", "a,b"])
def test_what_is_no_host_is_refused_before_anything_is_written(tmp_path: Path, host: str) -> None:
    with pytest.raises(CertificateError, match="is no host"):
        make_certificates(tmp_path / "new", [host])
    assert not (tmp_path / "new").exists()


def test_the_command_prints_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cluster"
    arguments = [str(folder), "--hosts", "a.lan", "b.lan", "--days", "7", "--at", "/etc/dask"]
    assert main(["certificates", *arguments]) == 0
    printed = capsys.readouterr().out
    assert printed == (folder / "tls.yaml").read_text()
    comm = yaml.safe_load(printed)["distributed"]["comm"]
    assert comm["require-encryption"] is True
    assert comm["tls"]["ca-file"] == "/etc/dask/ca.pem"
    node = {"cert": "/etc/dask/node.pem", "key": "/etc/dask/node-key.pem"}
    assert all(comm["tls"][role] == node for role in ("scheduler", "worker", "client"))


def test_no_days_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certificates", str(tmp_path), "--days", "0"]) == 2
    assert capsys.readouterr().err == (
        "znn-dask: a certificate for 0 days is of no use; give 1 or more\n"
    )


def test_without_cryptography_one_line_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from znn_dask.cli import main; sys.exit(main(['certificates', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        'znn-dask: certificates need the package cryptography: pip install "znn-dask[tls]"\n'
    )
