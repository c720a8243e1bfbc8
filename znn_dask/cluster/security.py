"""Who may reach a cluster: listening, connecting and encrypting, by Dask's own configuration.

Whoever reaches a Dask scheduler runs code on its workers. So nothing of ours listens beyond the
loopback interface without TLS, and plain connections beyond it are pointed out.
"""

import ipaddress
import socket
from pathlib import Path
from urllib.parse import urlsplit

import dask

_MAKE = "`znn-dask certificates FOLDER` makes certificates, DASK_CONFIG=FOLDER uses them"


class SecurityError(ValueError):
    """A cluster would be open to strangers, or certificates do not fit."""


def listening_protocol(host: str) -> str | None:
    """How a cluster of ours listens at `host`: "tls://", or None, as Dask will, on loopback.

    Raises
    ------
    SecurityError
        If the host is beyond loopback and Dask is configured without certificates.
    """
    if not beyond_loopback(host):
        return None
    missing = _missing("scheduler", "worker", "client")
    if missing:
        raise SecurityError(
            f"listening at {host} without TLS ({missing}) would let everyone who reaches this "
            f"machine run code on it: {_MAKE}"
        )
    return "tls://"


def check_connecting(address: str) -> None:
    """Raise SecurityError for a `tls://` address when Dask is configured without certificates."""
    if address.startswith("tls://") and (missing := _missing("client")):
        raise SecurityError(f"{address} takes certificates ({missing}): {_MAKE}")


def open_to_strangers(address: str) -> bool:
    """Whether a connection to this address is neither encrypted nor within this machine."""
    return urlsplit(address).scheme not in ("tls", "wss", "inproc") and beyond_loopback(address)


def beyond_loopback(address: str) -> bool:
    """Whether another machine may reach an address or host; a name counts by what it stands for."""
    with_scheme = address if "://" in address else f"tcp://{address}"
    host = address if _is_ip(address) else urlsplit(with_scheme).hostname
    if not host:
        return True  # all interfaces
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return True
    return not all(ipaddress.ip_address(ip.partition("%")[0]).is_loopback for ip in found)


def why_refused(address: str, error: BaseException) -> str:
    """What to do about a connection that failed for its encryption; "" if it did not.

    Dask wraps what TLS says in several ways, some without the original error: its words are asked.
    """
    said = " ".join(str(cause) for cause in _causes(error))
    if "encryption required" in said:
        return (
            "Dask is configured to refuse plain connections "
            f"(distributed.comm.require-encryption): write {_with_tls(address)}"
        )
    if not address.startswith("tls://"):
        closed = any(isinstance(cause, ConnectionResetError) for cause in _causes(error))
        if not closed:
            return ""
        return f"it closes plain connections; does it use TLS? Then write {_with_tls(address)}"
    if any(text in said for text in ("WRONG_VERSION", "RECORD_LAYER", "cannot convert to SSL")):
        return f"it does not speak TLS; write {address.replace('tls://', 'tcp://', 1)}"
    again = "make it again there with `znn-dask certificates FOLDER`"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        if "has expired" in said:
            return f"the certificate of the scheduler has expired: {again} and restart it"
        return (
            "the certificate of the scheduler is not of the authority in "
            f"{_setting('ca-file')}: take the files of the cluster's folder"
        )
    if "SSL" in said:  # an alert, or only an end: the other side does not wait for it to arrive
        return (
            f"it does not take the certificate {_setting('client.cert')}: use that of the "
            f"cluster's folder or, when it has expired, {again}"
        )
    return ""


def _missing(*roles: str) -> str:
    """What lacks in the configured certificates, in a few words; "" when nothing does."""
    needed = ["ca-file", *(f"{role}.cert" for role in roles)]
    possible = [f"{role}.key" for role in roles]  # else it is in the file of the certificate
    for name in (*needed, *possible):
        file = _setting(name)
        if file is None and name in needed:
            return f"distributed.comm.tls.{name} is not configured"
        if file is not None and "\n" not in file and not Path(file).is_file():
            return f"there is no file {file}"
    return ""


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _setting(name: str) -> str | None:
    value: str | None = dask.config.get(f"distributed.comm.tls.{name}", None)
    return value


def _with_tls(address: str) -> str:
    return f"tls://{address.partition('://')[2] or address}"


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error, what it was raised from, and so on."""
    found: list[BaseException] = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
