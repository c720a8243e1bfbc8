"""Who is in the cluster: its workers with their threads, hosts and libraries."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from distributed import Client

from znn_dask.cluster.fingerprint import Fingerprint
from znn_dask.cluster.plugin import FINGERPRINT

_STAYING = ("running", "paused")


@dataclass(frozen=True)
class Member:
    """A worker that can compute.

    Attributes
    ----------
    address
        Where Dask finds it.
    host
        Machine it runs on.
    threads
        Of its engine.
    libraries
        What decides the bits that it computes.
    """

    address: str
    host: str
    threads: int
    libraries: Fingerprint


def present_workers(client: Client) -> dict[str, Any]:
    """The cluster's workers at this moment, by address.

    Asked of the scheduler: what `Client.scheduler_info` returns may be replaced, between its answer
    and its return, by the client's own periodic update, which holds no workers.

    Raises
    ------
    OSError
        If the scheduler does not answer.
    """
    with reaching_scheduler(client):
        identity = client.sync(client.scheduler.identity, n_workers=-1)
    return dict(identity["workers"])


@contextmanager
def reaching_scheduler(client: Client) -> Iterator[None]:
    """Raise OSError for whatever Dask raises when the scheduler does not answer."""
    try:
        yield
    except Exception as error:
        unreached = isinstance(error, OSError | CancelledError)
        if client.status == "running" and not unreached:
            raise  # else the client is closing, as it does when the scheduler stays away
        raise OSError("the scheduler does not answer") from error


def members(client: Client) -> list[Member]:
    """Workers that stay and have told their fingerprint (`EnginePlugin`), by host and address.

    Raises OSError as `present_workers`.
    """
    found = [
        Member(address, host_of(address), worker["nthreads"], dict(worker["metrics"][FINGERPRINT]))
        for address, worker in present_workers(client).items()
        if worker["status"] in _STAYING and FINGERPRINT in worker["metrics"]
    ]
    return sorted(found, key=lambda member: (member.host, member.address))


def host_of(address: str) -> str:
    """The host in a Dask address."""
    return urlsplit(address).hostname or address


def most_common(workers: Sequence[Member]) -> Fingerprint:
    """The libraries behind the most threads; of several such, those of the first worker."""

    def threads(libraries: Fingerprint) -> int:
        return sum(member.threads for member in workers if member.libraries == libraries)

    return max((member.libraries for member in workers), key=threads)


def merged(fingerprints: Sequence[Mapping[str, str]]) -> Fingerprint:
    """One fingerprint for workers that differ: all their values, `a | b`."""
    names = sorted({name for fingerprint in fingerprints for name in fingerprint})
    return {
        name: " | ".join(sorted({fingerprint.get(name, "none") for fingerprint in fingerprints}))
        for name in names
    }
