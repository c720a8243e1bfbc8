"""The workers that a training may use: those whose libraries give its bits."""

import time
import warnings
from collections.abc import Sequence
from contextlib import suppress

from distributed import Client

from znn_dask.cluster.checks import ClusterError, ClusterWarning
from znn_dask.cluster.fingerprint import Fingerprint, difference
from znn_dask.cluster.members import (
    Member,
    members,
    merged,
    most_common,
    reaching_scheduler,
)
from znn_dask.cluster.plugin import install

_WAIT_SECONDS = 120.0  # for a first worker
_LIKENESS_SECONDS = 15.0  # for one with the right libraries: a nanny restarts workers sooner


class Crew:
    """Members of a cluster that are alike.

    Parameters
    ----------
    client
        Of the cluster.
    libraries
        Libraries that the workers should have, those of a checkpoint say. Where no worker has them
        when work begins, and when none are given, those of the most threads count from then on.
    any_worker
        Use workers whatever their libraries are: the bits then depend on who computed what.
    """

    def __init__(
        self, client: Client, libraries: Fingerprint | None = None, *, any_worker: bool = False
    ) -> None:
        self.libraries = libraries
        """What the workers have that are used; decided when the first ones are there."""
        self._client = client
        self._any_worker = any_worker
        self._decided = False
        self._refused: set[str] = set()

    def present(self) -> list[Member]:
        """Those that are there now, by host and address; others are named in a warning, once.

        Raises OSError where the scheduler does not answer.
        """
        return self._alike(members(self._client))

    def wait(self) -> list[Member]:
        """`present`, once there are some.

        Raises
        ------
        ClusterError
            If the cluster stays without workers, without ones of the right libraries, or does not
            answer.
        """
        began = time.monotonic()
        while True:
            waited = time.monotonic() - began
            present: list[Member] = []
            if self._client.status == "closed":  # until then it went on looking for the scheduler
                raise ClusterError("the scheduler is gone")
            with suppress(OSError):
                with reaching_scheduler(self._client):
                    install(self._client)
                present = members(self._client)
            if alike := self._alike(present):
                return alike
            if present and waited > _LIKENESS_SECONDS:
                different = difference(self.libraries or {}, present[0].libraries)
                raise ClusterError(
                    f"no worker has the libraries of this training ({different}, for one, on "
                    f"worker {present[0].address}); start such workers, or allow others "
                    "(any_worker) for other bits"
                )
            if waited > _WAIT_SECONDS:
                raise ClusterError(
                    f"no worker joined the cluster within {_WAIT_SECONDS:.0f} seconds; start some"
                )
            time.sleep(0.1)

    def _alike(self, present: Sequence[Member]) -> list[Member]:
        if not present:
            return []
        if self._any_worker:
            self.libraries = merged([member.libraries for member in present])
            return list(present)
        if not self._decided:
            if self.libraries not in [member.libraries for member in present]:
                self.libraries = most_common(present)
            self._decided = True
        wanted = self.libraries or {}
        for member in present:
            different = difference(wanted, member.libraries, "needed", "there")
            if different and member.address not in self._refused:
                self._refused.add(member.address)
                warnings.warn(
                    f"worker {member.address} is not used, its bits would differ: {different}; "
                    "allow it with any_worker",
                    ClusterWarning,
                    stacklevel=2,
                )
        return [member for member in present if member.libraries == wanted]
