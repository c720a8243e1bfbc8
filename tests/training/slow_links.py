"""Network namespaces joined by links of limited bandwidth and a delay.

    namespace of a worker ── TUN ── this forwarder ── TUN ── namespace of the scheduler (the hub)

A packet leaves one TUN device and enters the other when the link has carried those before it, and
the delay later. The kernel's own `netem` is not everywhere; `/dev/net/tun` nearly is.
"""

import contextlib
import ctypes
import fcntl
import os
import queue
import select
import struct
import subprocess
import threading
import time
from types import TracebackType
from typing import Self

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_MTU = 9000


class NoLinksError(RuntimeError):
    """This machine permits no namespaces or no TUN devices; says why."""


class SlowLinks:
    """A hub and some spokes, each namespace with an address of its own.

    bits_per_second, delay: of each link, one way.
    """

    def __init__(self, spokes: int, bits_per_second: float, delay: float) -> None:
        self._rate, self._delay = bits_per_second / 8, delay
        self._prefix = f"znn{os.getpid()}"
        self.hub = f"{self._prefix}-hub"
        self.spokes = [f"{self._prefix}-{i}" for i in range(spokes)]
        self._closed = threading.Event()
        self._files: list[int] = []
        self._threads: list[threading.Thread] = []
        self._queues: list[queue.SimpleQueue[tuple[float, bytes] | None]] = []

    def address(self, spoke: int) -> str:
        return f"10.213.{spoke}.2"

    @property
    def hub_address(self) -> str:
        return "10.213.255.1"

    def inside(self, namespace: str) -> list[str]:
        """Command that runs another one in a namespace."""
        return ["ip", "netns", "exec", namespace]

    def __enter__(self) -> Self:
        try:
            for name in (self.hub, *self.spokes):
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", self.hub, "address", "add", f"{self.hub_address}/32", "dev", "lo")
            forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
            _run([*self.inside(self.hub), "sh", "-c", forward])
            for i, name in enumerate(self.spokes):
                ends = (f"10.213.{i}.1", self.address(i))
                here = self._device(self.hub, f"link{i}", ends)
                there = self._device(name, "link", ends[::-1])
                _ip("-n", name, "route", "add", "default", "dev", "link")
                self._carry(here, there)
                self._carry(there, here)
        except (OSError, subprocess.CalledProcessError) as error:
            self._remove()
            said = getattr(error, "stderr", None) or str(error)
            raise NoLinksError(f"no network namespaces here: {said.strip()}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        self._closed.set()
        for waiting in self._queues:
            waiting.put(None)
        for thread in self._threads:
            thread.join()
        for file in self._files:
            os.close(file)
        for name in (self.hub, *self.spokes):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def _device(self, namespace: str, name: str, ends: tuple[str, str]) -> int:
        file = _open_tun(namespace, name)
        self._files.append(file)
        _ip("-n", namespace, "address", "add", ends[0], "peer", ends[1], "dev", name)
        _ip("-n", namespace, "link", "set", "dev", name, "mtu", str(_MTU), "up")
        return file

    def _carry(self, source: int, target: int) -> None:
        packets: queue.SimpleQueue[tuple[float, bytes] | None] = queue.SimpleQueue()

        def receive() -> None:
            free = 0.0
            while not self._closed.is_set():
                if select.select([source], [], [], 0.1)[0]:
                    packet = os.read(source, _MTU + 100)
                    free = max(free, time.monotonic()) + len(packet) / self._rate
                    packets.put((free + self._delay, packet))

        def send() -> None:
            while (entry := packets.get()) is not None:
                due, packet = entry
                time.sleep(max(0.0, due - time.monotonic()))
                with contextlib.suppress(OSError):  # the other end is not up yet
                    os.write(target, packet)

        self._queues.append(packets)
        for function in (receive, send):
            thread = threading.Thread(target=function, daemon=True)
            self._threads.append(thread)
            thread.start()


def _open_tun(namespace: str, name: str) -> int:
    """A TUN device in a namespace: this thread goes there for a moment."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        _enter(libc, there)
        try:
            file = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(
                file, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
            )
            return file
        finally:
            _enter(libc, home)
    finally:
        os.close(there)
        os.close(home)


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
