"""Certificates for a cluster: an authority of its own, and one certificate for all its nodes.

Dask lets in whoever shows a certificate of the cluster's authority, in both directions; it does not
compare host names. One certificate for scheduler, workers and clients therefore says all there is.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import yaml

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization as to
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID
except ImportError as error:
    raise ImportError(
        'certificates need the package cryptography: pip install "znn-dask[tls]"'
    ) from error

AUTHORITY, AUTHORITY_KEY = "ca.pem", "ca-key.pem"
NODE, NODE_KEY = "node.pem", "node-key.pem"
CONFIGURATION = "tls.yaml"

_AUTHORITY_NAME = "znn-dask authority"
_AUTHORITY_DAYS = 3650  # it changes only with the cluster
_CLOCKS = timedelta(hours=1)  # they differ between machines


class CertificateError(ValueError):
    """Certificates cannot be made as asked."""


def make_certificates(
    folder: Path, hosts: Sequence[str] = (), *, days: int = 365, at: Path | None = None
) -> Path:
    """Make certificates for a cluster and the Dask configuration that names them.

    The authority `ca.pem` is made once; in a folder that has one, it signs a new node certificate,
    which all that trust the authority take.

    Parameters
    ----------
    folder
        Where `ca.pem`, `ca-key.pem`, `node.pem`, `node-key.pem` and `tls.yaml` go. Keys can be
        read by their owner only.
    hosts
        Names and addresses to write into the certificate. Dask does not read them; browsers do.
    days
        How long the node certificate holds.
    at
        Where the folder will be on the machines, if elsewhere; the configuration names files there.

    Returns
    -------
    The path of the configuration.

    Raises
    ------
    CertificateError
        If `days` is not positive, the folder has one half of an authority, or a host is no name.
    """
    if days < 1:
        raise CertificateError(f"a certificate for {days} days is of no use; give 1 or more")
    names = [_alternative_name(host) for host in ("localhost", "127.0.0.1", *hosts)]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority_key = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder("znn-dask node", key, days, is_authority=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )
    _write_key(folder / NODE_KEY, key)
    _write(folder / NODE, certificate.public_bytes(to.Encoding.PEM))
    configuration = folder / CONFIGURATION
    _write(configuration, _configuration(at or folder.absolute()).encode())
    return configuration


def _authority(folder: Path) -> ec.EllipticCurvePrivateKey:
    """The key of the folder's authority, which is made if there is none."""
    certificate, file = folder / AUTHORITY, folder / AUTHORITY_KEY
    if file.is_file() and certificate.is_file():
        return to.load_pem_private_key(file.read_bytes(), None)
    if file.is_file() or certificate.is_file():
        present, absent = (file, certificate) if file.is_file() else (certificate, file)
        raise CertificateError(
            f"{folder} has {present.name} without {absent.name}: use the folder that has both, or "
            "a new one"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    made = _builder(_AUTHORITY_NAME, key, _AUTHORITY_DAYS, is_authority=True)
    _write_key(file, key)
    _write(certificate, made.sign(key, hashes.SHA256()).public_bytes(to.Encoding.PEM))
    return key


def _builder(
    subject: str, key: ec.EllipticCurvePrivateKey, days: int, *, is_authority: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(_AUTHORITY_NAME))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    if not host or not all(c.isascii() and (c.isalnum() or c in "-._*") for c in host):
        raise CertificateError(f"{host!r} is no host: give names and addresses, such as node1.lan")
    return x509.DNSName(host)


def _configuration(folder: Path) -> str:
    node = {"cert": str(folder / NODE), "key": str(folder / NODE_KEY)}
    tls = {"ca-file": str(folder / AUTHORITY)}
    roles = {role: dict(node) for role in ("scheduler", "worker", "client")}
    comm = {"require-encryption": True, "tls": tls | roles}
    return (
        "# Made by `znn-dask certificates`. Dask reads it where DASK_CONFIG names its folder.\n"
        + yaml.safe_dump({"distributed": {"comm": comm}}, sort_keys=False)
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, to.NoEncryption())
    _write(path, pem, 0o600)


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Whole, or as it was; a key is at no moment readable by others."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
    new.replace(path)
