"""Hosts on one machine: network namespaces on a bridge, each with an address of its own."""

import os
import subprocess
from types import TracebackType
from typing import Self


class NoNamespacesError(RuntimeError):
    """This machine permits none; says why."""


class Hosts:
    """So many hosts that reach each other, and nothing else. Needs the rights of root."""

    def __init__(self, number: int) -> None:
        prefix = f"znn{os.getpid()}"
        self._bridge = f"{prefix}-bridge"
        self.names = [f"{prefix}-host{i}" for i in range(number)]

    def address(self, host: int) -> str:
        return f"10.214.0.{host + 1}"

    def inside(self, host: int) -> list[str]:
        """Command that runs another one on a host."""
        return ["ip", "netns", "exec", self.names[host]]

    def __enter__(self) -> Self:
        try:
            _ip("netns", "add", self._bridge)
            _ip("-n", self._bridge, "link", "add", "bridge", "type", "bridge")
            _ip("-n", self._bridge, "link", "set", "bridge", "up")
            for i, name in enumerate(self.names):
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"port{i}")
                _ip("-n", name, "link", "set", f"port{i}", "netns", self._bridge)
                _ip("-n", self._bridge, "link", "set", f"port{i}", "master", "bridge", "up")
                _ip("-n", name, "address", "add", f"{self.address(i)}/24", "dev", "eth0")
                _ip("-n", name, "link", "set", "eth0", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            self._remove()
            said = getattr(error, "stderr", None) or str(error)
            raise NoNamespacesError(f"no network namespaces here: {said.strip()}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for name in (*self.names, self._bridge):
            try:
                subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
            except OSError:
                return  # there is no `ip` at all


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
